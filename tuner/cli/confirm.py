"""`tuner confirm`: train the best configs again with fresh seeds, and say which gain holds."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tuner.cli.coloured import secho
from tuner.cli.common import AsJson, Storage, StudyName, metric_name, print_json
from tuner.cli.fitting import print_table
from tuner.cli.options import DataHere, Device, Gpus, PerGpu, Slots, Timeout, TrainerPath, device_of, plans_of
from tuner.cli.work import cut_short, exit_code, work_on_repeats
from tuner.config.counts import MAX_RUNS

if TYPE_CHECKING:
    from tuner.studies.study import Study
    from tuner.studies.trust.confirmation import Confirmation
    from tuner.studies.trust.repeats import Repeats


def confirm(
    study: StudyName,
    top: Annotated[int, typer.Option(min=1, help="Configs to confirm, the default one aside.")] = 5,
    seeds: Annotated[int, typer.Option(min=2, max=MAX_RUNS, help="Fresh seeds to train each with.")] = 3,
    data: DataHere = None,
    storage: Storage = None,
    timeout: Timeout = None,
    device: Device = None,
    slots: Slots = None,
    gpus: Gpus = None,
    per_gpu: PerGpu = None,
    as_json: AsJson = False,
    trainer: TrainerPath = None,
) -> None:
    """Train the best configs and the default one again with fresh seeds, in full, and rank them by their means.

    `tuner export` takes the winner from then on. Interrupted, or called on several machines, it goes on; runs
    that are finished are not made again.
    """
    from tuner.cli.own_trainer import check_trainer
    from tuner.cli.supervise import supervised
    from tuner.cli.trust import confirmed_json, trust_of
    from tuner.studies.opening import open_study
    from tuner.studies.trust.confirm import plan_confirmation

    check_trainer(trainer)
    asked = device_of(device, gpus)
    deadline = time.monotonic() + timeout if timeout else None

    def begin(first: bool) -> int:
        opened = open_study(study, storage, data_root=data)
        plans = plans_of(opened.spec, asked, slots, per_gpu)
        repeats = plan_confirmation(opened, top, seeds)
        chosen = len({trial for trial, _ in repeats.asked or ()}) - 1
        if first and chosen < top and not as_json:
            secho(f"Beside the default, {chosen} of {top} configs can be confirmed: no more are complete.", fg="yellow")
        if first:
            print_left_over(opened, repeats, data, err=as_json)
            repeats.resume()  # what paused or ended it before counts no more
        if repeats.unfinished():
            left = None if deadline is None else max(1.0, deadline - time.monotonic())
            report = work_on_repeats(repeats, plans, left, trainer, quiet=as_json)
            if cut_short(report, repeats):
                so_far = trust_of(opened)
                if as_json:
                    print_json((confirmed_json(so_far) or {}) | {"finished": False, "reason": report.reason})
                elif so_far.confirmation is not None:
                    print_confirmation(so_far.confirmation, opened.spec.objective.metric)
                typer.echo("Not finished; the same command goes on.", err=as_json)
                return exit_code(report)
        _print_result(opened, top, data, as_json=as_json)
        return 0

    raise typer.Exit(supervised(begin, storage))


def _print_result(opened: Study, top: int, data: Path | None, *, as_json: bool) -> None:
    """What the finished runs say, and what to do next."""
    from tuner.cli.trust import Trust, confirmed_json
    from tuner.storage.urls import storage_option
    from tuner.studies.trust.confirm import confirmation

    found = confirmation(opened)
    if as_json:
        print_json(confirmed_json(Trust(confirmation=found)) or {"finished": False, "reason": "planned meanwhile"})
    elif found is None:
        typer.echo("More runs were planned meanwhile; the same command shows the result when they have ended.")
    else:
        print_confirmation(found, opened.spec.objective.metric)
        seeds = found.seeds_to_propose
        if seeds is not None:
            again = _command(opened, top, seeds, data)
            typer.echo(f"To be surer, train more seeds, those above included: {again}")
        typer.echo(f"Next: tuner export {opened.name} -o best.yaml{storage_option(opened.database.url)}")


def _command(study: Study, top: int, seeds: int, data: Path | None) -> str:
    """A call of this command, with the options that stay."""
    from tuner.cli.own_trainer import trainer_option
    from tuner.storage.urls import storage_option

    there = "" if data is None else f" --data {shlex.quote(str(data))}"
    options = f"{there}{storage_option(study.database.url)}{trainer_option(study)}"
    return f"tuner confirm {study.name} --top {top} --seeds {seeds}{options}"


def print_left_over(study: Study, repeats: Repeats, data: Path | None = None, *, err: bool = False) -> None:
    """Runs of earlier calls that are not asked for now, and what goes on with them."""
    from tuner.studies.trust.confirm import left_over

    left = left_over(study, repeats)
    if left is None:
        return
    command = _command(study, left.top, left.seeds, data)
    how = f"`{command}`" if left.top else f"`tuner run` with --baseline-repeats {left.seeds + 1}"
    secho(f"{left.runs} runs of an earlier request are left; {how} goes on with them.", fg="yellow", err=err)


def print_confirmation(found: Confirmation, metric: str) -> None:
    """The configs by their means, and what became of the claim."""
    from rich.table import Table

    ranking = found.ranking
    table = Table(title=f"{metric_name(metric)}, mean of {len(found.seeds)} fresh seeds", title_justify="left")
    for column in ("trial", "mean", "95 % interval", "gain", "better than the default"):
        table.add_column(column, justify="right")
    for one in ranking.estimates:
        sure = "" if one.probability is None else f"{one.probability:.1%}"
        name = f"{one.key}{' (default)' if one.key == ranking.default else ''}"
        gain = "" if one.key == ranking.default else f"{one.gain:+.4f}"
        table.add_row(name, f"{one.mean:.4f}", f"{one.low:.4f} … {one.high:.4f}", gain, sure)
    print_table(table)
    for trial, why in found.left_out.items():
        secho(f"trial {trial} is left out: {why}", fg="yellow")
    for seed, why in found.lost_seeds.items():
        secho(f"seed {seed} is left out: the default config was {why}", fg="yellow")
    for trial, more in found.unused.items():
        secho(
            f"trial {trial} was trained with {more} more seeds, which were not asked for and do not count", fg="yellow"
        )
    for trial, broken in found.broken.items():
        secho(f"trial {trial} does not keep {broken}: it cannot win", fg="yellow")
    typer.echo(f"noise      standard deviation of one run {ranking.spread:.4f}, beside what its seed does to all alike")
    secho(f"confirmed  {found.verdict}", fg="green" if found.stands_out else "yellow")
