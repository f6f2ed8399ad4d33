"""`tuner replay`: samplers and pruners on the curves that a study has stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from tuner.cli.coloured import secho
from tuner.cli.common import AsJson, Storage, StudyName, metric_name, number, print_json
from tuner.cli.fitting import print_table
from tuner.config.errors import ConfigError, nearest, plural

if TYPE_CHECKING:
    from tuner.config.base import Frozen
    from tuner.studies.replay.replay import Replay

ENOUGH = 20
"""Complete trials from which a replay is more than a hint."""


def replay(
    study: StudyName,
    pruner: Annotated[
        list[str] | None, typer.Option(help="Pruner to try; may be repeated.", show_default="all")
    ] = None,
    sampler: Annotated[
        list[str] | None,
        typer.Option(help="Sampler to try, beside the order in which the trials ran; may be repeated."),
    ] = None,
    first_rung: Annotated[
        int | None,
        typer.Option(
            min=1, help="Epochs before the first decision.", show_default="a ninth of all, not before the third"
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Replays of each sampler.")] = 20,
    storage: Storage = None,
    as_json: AsJson = False,
) -> None:
    """Show what other pruners and samplers would have saved, and which good trials they would have stopped.

    Nothing is trained: the stored curves are replayed. A trial that the study itself pruned goes as far as its
    curve, and a sampler gets the stored trial that is nearest to its proposal.
    """
    from dataclasses import asdict

    from tuner.config.study import PrunerSpec, SamplerSpec
    from tuner.studies.opening import open_study
    from tuner.studies.replay.replay import replay_study

    rungless = ("none",)
    pruners = [
        PrunerSpec.model_validate({"name": name, "first_rung": None if name in rungless else first_rung})
        for name in _names("--pruner", PrunerSpec, pruner or _choices(PrunerSpec))
    ]
    samplers = [
        SamplerSpec.model_validate({"name": name}) for name in _names("--sampler", SamplerSpec, sampler or [], "grid")
    ]
    opened = open_study(study, storage)
    found = replay_study(opened, pruners, samplers, seeds=seeds)
    if as_json:
        data = asdict(found)
        for row, outcome in zip(data["outcomes"], found.outcomes, strict=True):
            row["pruner"] = outcome.pruner.model_dump(exclude_none=True)
        print_json(data)
        return
    _print(found, metric_name(opened.spec.objective.metric), pruned=opened.spec.pruner.name != "none")


def _print(found: Replay, metric: str, *, pruned: bool) -> None:
    from rich.table import Table

    curves = f"{plural(found.curves, 'trial')} with curves, {found.complete} of them complete"
    typer.echo(f"{curves} ({plural(found.epochs, 'epoch')})")
    if not found.feasible:
        secho("No complete trial keeps the constraints: none is good, and none the best.", fg="yellow")
    elif found.feasible < found.complete:
        typer.echo(f"{found.feasible} of these keep the constraints: good and best trials are among them.")
    if not found.has_default:
        typer.echo(
            "The default config has no curve: pruners may stop any trial here, where a study spares the default."
        )
    if pruned:
        typer.echo("The study pruned: complete trials are those it spared, so all figures below speak of these only.")
    shown = sorted({1, 2, 3, found.first_rung, *(round(found.epochs * share / 10) for share in range(1, 11))} - {0})
    correlations = ", ".join(f"{epoch}: {_correlation(found.correlations[epoch - 1])}" for epoch in shown
                             if epoch <= found.epochs)  # fmt: skip
    typer.echo(f"rank correlation of an epoch with the last: {correlations}")
    if found.correlations[-1] is None:
        typer.echo("first rung: none to advise, since all complete trials ended with the same value")
    elif found.first_rung <= found.epochs // 2:
        typer.echo(f"first rung this advises: epoch {found.first_rung}")
    else:
        typer.echo(f"first rung: none to advise, since epochs before {found.first_rung} are no fair judges of the last")
    secho(_doubt(found), fg="yellow" if found.complete < ENOUGH else None)
    table = Table()
    for column in ("sampler", "pruner", "epochs", "saved", "good trials stopped", f"best {metric}", "epochs to best"):
        table.add_column(column, justify="left" if column in ("sampler", "pruner") else "right")
    for row in found.outcomes:
        stopped = {trial: share for trial, share in row.killed.items() if share}
        table.add_row(
            row.sampler,
            row.pruner.name,
            f"{row.epochs:.0f}",
            f"{row.saved:.0%}",
            ", ".join(f"{trial}" + (f" ({share:.0%})" if share < 1 else "") for trial, share in stopped.items()) or "–",
            number(row.best),
            "never" if row.to_best is None else f"{row.to_best:.0f}",
        )
    print_table(table)


def _doubt(found: Replay) -> str:
    """How much the advice is worth."""
    if found.doubt is None:
        return f"{found.complete} complete trials tell nothing about correlations: take no advice from them."
    low, high = found.doubt
    weak = "" if found.complete >= ENOUGH else "; take what follows for a hint, no more"
    return f"from {found.complete} complete trials, 0.80 may be {low:.2f} to {high:.2f} in truth (95 %){weak}"


def _correlation(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _choices(spec: type[Frozen]) -> tuple[Any, ...]:
    return get_args(spec.model_fields["name"].annotation)


def _names(option: str, spec: type[Frozen], names: Any, *without: str) -> list[str]:
    known = [name for name in _choices(spec) if name not in without]
    for name in names:
        if name not in known:
            raise ConfigError(f"{option}: there is no {name!r} to replay", hint=nearest(name, known))
    return list(names)
