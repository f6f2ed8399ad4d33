"""`tuner run`: run a study, or go on with it."""

from __future__ import annotations

import time
from mmap import mmap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tuner.cli.common import Storage
from tuner.cli.options import Device, Gpus, PerGpu, Slots, Timeout, TrainerPath, device_of, plans_of
from tuner.config.counts import MAX_RUNS

if TYPE_CHECKING:
    from tuner.config.study import StudySpec
    from tuner.studies.study import Study


def run(
    file: Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="The study file; `tuner init` writes one.")],
    trials: Annotated[int | None, typer.Option(min=1, help="Finished trials after which the study ends.")] = None,
    timeout: Timeout = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Full training length of each trial.")] = None,
    storage: Storage = None,
    device: Device = None,
    slots: Slots = None,
    gpus: Gpus = None,
    per_gpu: PerGpu = None,
    enqueue: Annotated[
        Path | None,
        typer.Option(help="YAML or JSON list of points to train first; what a point leaves out is the default's."),
    ] = None,
    warm_start: Annotated[
        str | None, typer.Option(metavar="STUDY", help="Train the best configs of an earlier study first.")
    ] = None,
    baseline_repeats: Annotated[
        int,
        typer.Option(
            min=1, max=MAX_RUNS, help="Runs of the default config, each with a seed of its own, to measure the noise."
        ),
    ] = 1,
    hours: Annotated[
        float | None,
        typer.Option(
            help="Plan epochs, trials and a confirmation for so many hours, from one timed epoch; keep to it."
        ),
    ] = None,
    keep: Annotated[
        Literal["best", "all", "none"] | None,
        typer.Option(help="Checkpoints of ended trials that stay.", show_default="the study file's, else best"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, show the plan and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --dry-run: the study and its plan as JSON.")] = False,
    trainer: TrainerPath = None,
) -> None:
    """Run a study, or go on with it where it stopped.

    Ctrl-C once saves the running trials; the same command then goes on with them.

    Example: `tuner run study.yaml --hours 8`
    """
    from tuner.cli.common import print_json, print_notes
    from tuner.cli.dry_run import plan_json, show_plan
    from tuner.cli.first_points import check_source, points_of, queue, say_ruled_out, with_warm_start
    from tuner.cli.own_trainer import check_trainer
    from tuner.cli.phases import search_and_confirm
    from tuner.cli.plan import planned
    from tuner.cli.summary import print_next
    from tuner.cli.supervise import supervised
    from tuner.cli.trust import trust_of
    from tuner.config.errors import ConfigError
    from tuner.config.load import base_config, load_study_spec
    from tuner.space.load import load_space
    from tuner.storage.sqlite_files import require_place
    from tuner.studies.opening import check_known, check_study, create_or_open, stored_spec
    from tuner.studies.state.specs import stored
    from tuner.workers.trainer_choice import check_built_in

    if as_json and not dry_run:
        raise ConfigError("--json shows what --dry-run finds", hint="Give both, or `tuner show STUDY --json` later.")
    if hours is not None and not 0 < hours < float("inf"):
        raise ConfigError(f"--hours {hours:g}: expected more than 0 and less than infinity")
    spec = load_study_spec(
        file,
        {
            "budget.trials": trials,
            "budget.timeout": timeout,
            "defaults.epochs": epochs,
            "storage": storage,
            "device": device_of(device, gpus),
            "slots": slots,
            "keep": keep,
        },
    )
    plans = plans_of(spec, None, slots, per_gpu)
    check_trainer(trainer)
    if trainer is None:
        check_built_in(plans, load_space(spec.space), base_config(spec))
    if dry_run:
        require_place(spec.storage)
        check_source(warm_start, spec)
        typer.echo("Reading the data set …", err=True)
        spec = planned(spec, hours, plans, trainer, epochs=epochs, trials=trials)
        checked = check_study(spec)
        points = points_of(enqueue, spec, checked.space, checked.ruled_out)
        check_known(spec, checked)
        points = with_warm_start(points, warm_start, spec, checked.space)
        if as_json:
            shown = plan_json(spec, checked)
            rest = {"slots": len(plans), "points": points, "baseline_repeats": baseline_repeats}
            print_json(stored(spec) | shown | rest)
        else:
            show_plan(spec, plans, checked, points, baseline_repeats)
        print_notes(checked.dataset, checked.default)
        return
    started = time.monotonic()
    begun = mmap(-1, 1)  # shared by all starts, of which the first may have died before it had the study

    def begin(first: bool) -> int:
        if first:
            typer.echo("Reading the data set …", err=True)
        laid_out = planned(spec, hours, plans, trainer, epochs=epochs, trials=trials)
        if begun[0]:
            study = _open_again(laid_out)
            points = points_of(enqueue, laid_out, study.space, {})
        else:
            checked = check_study(laid_out)
            points = points_of(enqueue, laid_out, checked.space, checked.ruled_out)
            check_source(warm_start, laid_out)
            exists = stored_spec(spec.name, spec.storage) is not None
            study = create_or_open(laid_out, checked)
            begun[0] = 1
            say_ruled_out({} if exists else checked.ruled_out)
            print_notes(checked.dataset, checked.default)
        if points or warm_start:  # by a new worker, too: what is there stays, and the old one may have died before
            queue(study, points, warm_start)
        code = search_and_confirm(study, laid_out, plans, started, baseline_repeats, trainer)
        if laid_out.plan is None or trust_of(study).confirmation is None:  # a confirmation has said what comes next
            print_next(study)
        return code

    raise typer.Exit(supervised(begin, spec.storage))


def _open_again(spec: StudySpec) -> Study:
    """The study as it stands, after its worker died: it may have been paused or stopped meanwhile."""
    from tuner.studies.opening import open_study

    return open_study(spec.name, spec.storage, data_root=spec.data.root)
