"""`tuner run`: run a study, or go on with it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tuner.cli.common import Storage

if TYPE_CHECKING:
    from tuner.config.study import StudySpec
    from tuner.studies.study import Study
    from tuner.workers.devices import SlotPlan
    from tuner.workers.observer import WorkerReport

TIMEOUT_HELP = "Stop after this wall time, such as 90s, 30m or 2h; running trials save their state."
Device = Annotated[
    str | None, typer.Option(help="auto, cpu, cuda or cuda:N.", show_default="the study file's, else auto")
]
Slots = Annotated[
    int | None,
    typer.Option(min=1, help="Trials at the same time.", show_default="one for each GPU, or for each CPU core"),
]
Gpus = Annotated[
    str | None,
    typer.Option(metavar="N", help="How many GPUs to use, or which, as in 0,1,3 (one: `2,`).", show_default="all"),
]
PerGpu = Annotated[
    str | None,
    typer.Option(
        "--per-gpu",
        metavar="N|auto",
        help="Trials at the same time on each GPU; auto: as many as fit and raise the throughput.",
        show_default="1",
    ),
]
TrainerPath = Annotated[str | None, typer.Option("--trainer", hidden=True, help="module:callable to train with.")]


def run(
    file: Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="The study file; `tuner init` writes one.")],
    trials: Annotated[int | None, typer.Option(min=1, help="Finished trials after which the study ends.")] = None,
    timeout: Annotated[str | None, typer.Option(help=TIMEOUT_HELP)] = None,
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
        int, typer.Option(min=1, help="Runs of the default config, each with a seed of its own, to measure the noise.")
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
    """
    from tuner.cli.common import print_json
    from tuner.cli.plan import planned
    from tuner.config.errors import ConfigError
    from tuner.config.load import load_study_spec
    from tuner.studies.specs import stored

    if as_json and not dry_run:
        raise ConfigError("--json shows what --dry-run finds", hint="Give both, or `tuner show STUDY --json` later.")
    if hours is not None and not hours > 0:
        raise ConfigError(f"--hours {hours:g}: expected more than 0")
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
    from tuner.workers.devices import plan_slots

    plans = plan_slots(spec.device, slots if per_gpu else spec.slots, per_gpu=per_gpu_of(per_gpu))
    if dry_run:
        if enqueue:
            _read_points(enqueue, spec)
        spec = planned(spec, hours, plans, trainer, epochs=epochs, trials=trials)
        if as_json:
            print_json(stored(spec) | {"slots": len(plans)})
        else:
            show_plan(spec, plans)
        return
    from tuner.cli.supervise import supervised

    started = time.monotonic()

    def begin(first: bool) -> int:
        laid_out = planned(spec, hours, plans, trainer, epochs=epochs, trials=trials)
        points = _read_points(enqueue, spec) if enqueue else []
        study = _open(laid_out, points, warm_start) if first else _open_again(laid_out)
        return _search_and_confirm(study, laid_out, plans, started, baseline_repeats, trainer)

    raise typer.Exit(supervised(begin))


def _open(spec: StudySpec, points: list[dict[str, Any]], warm_start: str | None) -> Study:
    from tuner.studies.study import create_or_open

    study = create_or_open(spec)
    if points or warm_start:
        _queue(study, points, warm_start, spec.storage)
    return study


def _open_again(spec: StudySpec) -> Study:
    """The study as it stands, after its worker died: it may have been paused or stopped meanwhile."""
    from tuner.studies.study import open_study

    return open_study(spec.name, spec.storage, data_root=spec.data.root)


def _search_and_confirm(
    study: Study, spec: StudySpec, plans: list[SlotPlan], started: float, baseline_repeats: int, trainer: str | None
) -> int:
    """Work on the study, and confirm its best where that was planned; the exit code."""
    from tuner.cli.plan import confirm_planned, print_plan, search_limit

    plan, left = spec.plan, spec.budget.timeout
    if left is not None:
        left = max(1.0, left - (time.monotonic() - started))
    if plan is not None:
        print_plan(plan)
        left = min(left or search_limit(study, plan), search_limit(study, plan))
    if baseline_repeats > 1:
        left = _measure_noise(study, baseline_repeats, plans, left, trainer)
    report = work(study, plans, left, trainer)
    if (
        plan is None
        or report.reason not in ("finished", "timeout")
        or (spec.budget.timeout and report.reason == "timeout")
    ):
        return exit_code(report)
    return confirm_planned(study, plan, plans, trainer)


def _read_points(file: Path, spec: StudySpec) -> list[dict[str, Any]]:
    from tuner.config.load import base_config
    from tuner.space.load import load_space
    from tuner.studies.enqueue import read_points

    return read_points(file, load_space(spec.space), base_config(spec))


def _queue(study: Study, points: list[dict[str, Any]], warm_start: str | None, storage: str | None) -> None:
    """Have points trained first, and say what became of them."""
    from tuner.studies.enqueue import enqueue, warm_points
    from tuner.studies.study import open_study

    skipped: list[str] = []
    if warm_start:
        earlier = open_study(warm_start, storage)
        try:
            warm, skipped = warm_points(study, earlier)
        finally:
            earlier.close()
        points = [*points, *warm]
    queued = enqueue(study, points)
    for reason in skipped:
        typer.secho(f"warm start from {warm_start}: {reason}", fg="yellow")
    there = f"; already there: trial {', '.join(map(str, queued.known))}" if queued.known else ""
    typer.echo(f"{queued.added} of {len(points)} points are trained first{there}")


def _measure_noise(
    study: Study, runs: int, plans: list[SlotPlan], timeout: float | None, trainer: str | None
) -> float | None:
    """Train the default config with further seeds; returns the time that is left."""
    from tuner.cli.confirm import work_on_repeats
    from tuner.studies.noise import plan_baseline

    repeats = plan_baseline(study, runs)
    if not repeats.unfinished():
        return timeout
    report = work_on_repeats(repeats, plans, timeout, trainer)
    if report.reason != "finished":
        if report.message:
            typer.secho(f"error: {report.message}", fg="red", err=True)
        typer.echo("The default config's repeats are not finished; the same command goes on with them.")
        raise typer.Exit(exit_code(report))
    return None if timeout is None else max(1.0, timeout - report.wall_seconds)


def device_of(device: str | None, gpus: str | None) -> str | None:
    """The device that `--device` and `--gpus` (so many, or a list of numbers) mean; None where neither was given.

    Raises:
        ConfigError: Both were given.
    """
    from tuner.config.errors import ConfigError

    if gpus is None:
        return device
    if device is not None:
        raise ConfigError(f"--device {device} and --gpus {gpus}: give one of them")
    if gpus.isdecimal() and int(gpus) > 0:
        return f"cuda:{','.join(map(str, range(int(gpus))))}"
    return f"cuda:{gpus.removesuffix(',')}"


def per_gpu_of(text: str | None) -> int | Literal["auto"] | None:
    """What `--per-gpu` means.

    Raises:
        ConfigError: It is no number above 0 and not auto.
    """
    from tuner.config.errors import ConfigError

    if text is None or text == "auto":
        return "auto" if text else None
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"--per-gpu is {text!r}, expected a number from 1 on, or auto")
    return int(text)


def exit_code(report: WorkerReport) -> int:
    """0, 1 where failures ended the study, 130 after Ctrl-C."""
    return {"failed": 1, "interrupted": 130}.get(report.reason, 0)


def work(study: Study, plans: list[SlotPlan], timeout: float | None, trainer: str | None = None) -> WorkerReport:
    """Run a worker with a display and the dashboard's pictures, and print what came of it."""
    from rich.console import Console

    from tuner.cli.live import LiveTable
    from tuner.cli.plain import PlainLog
    from tuner.cli.summary import print_report
    from tuner.cli.trust import print_trust
    from tuner.report.dashboard import DashboardObserver
    from tuner.workers.observer import Background
    from tuner.workers.worker import BUILT_IN_TRAINER, run_worker

    console = Console()
    display = LiveTable(study, console) if console.is_terminal else PlainLog(study)
    report = run_worker(
        study,
        slots=plans,
        trainer=trainer or BUILT_IN_TRAINER,
        timeout=timeout,
        observers=[display, Background(DashboardObserver(study))],
    )
    print_report(study, report)
    print_trust(study)
    return report


def show_plan(spec: StudySpec, plans: list[SlotPlan]) -> None:
    """Print what a run would do, after checking the spec and the data set."""
    from tuner.cli.common import duration
    from tuner.config.load import base_config
    from tuner.storage.urls import masked, resolve
    from tuner.studies.study import check_study

    space, ruled_out, dataset = check_study(spec)
    base = base_config(spec)
    typer.echo(f"study      {spec.name}")
    typer.echo(f"storage    {masked(resolve(spec.storage))}")
    for split in (dataset.train, dataset.val, dataset.test):
        if split is not None:
            typer.echo(f"{split.name:<10} {len(split)} images, {len(split.labels)} boxes, {len(split.classes)} classes")
    typer.echo(f"default    {base.model}, image size {base.image_size}, {base.epochs} epochs, batch {base.batch_size}")
    typer.echo(f"objective  {spec.objective.direction} {spec.objective.metric}")
    typer.echo(f"search     {spec.sampler.name}, pruner {spec.pruner.name}")
    for name, dimension in space.dimensions.items():
        how = " (found by a sweep, costs no training)" if name in space.swept else ""
        typer.echo(f"  {name}: {dimension}{how}")
    for name, reason in ruled_out.items():
        typer.echo(f"    not {name}: {reason}")
    trials = f"{spec.budget.trials} trials" if spec.budget.trials else "no limit of trials"
    timeout = f", {duration(spec.budget.timeout)}" if spec.budget.timeout else ""
    typer.echo(f"budget     {trials}{timeout}, {base.epochs} epochs at most for each")
    if spec.plan is not None:
        from tuner.cli.plan import print_plan

        print_plan(spec.plan)
    for plan in plans:
        typer.echo(f"slot {plan.index}     {plan.label}, {plan.threads} threads")
