"""`tuner list`: the studies of a database."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING

import typer

from tuner.cli.common import AsJson, Storage, duration, number, print_json
from tuner.cli.fitting import print_table

if TYPE_CHECKING:
    from tuner.cli.trust import Trust
    from tuner.studies.state.records import StudySummary
    from tuner.studies.trust.confidence import Estimate


def list_(storage: Storage = None, as_json: AsJson = False) -> None:
    """List the studies of a database, one line each.

    Best and default are of one run each, or, where a study was confirmed, means of fresh seeds.
    """
    from dataclasses import asdict

    from rich.table import Table

    from tuner.cli.trust import Trust, confirmed_json, trust_in
    from tuner.storage.urls import masked, resolve
    from tuner.studies.reading import list_studies
    from tuner.studies.state.presence import gone_studies

    studies = list_studies(storage)
    gone = gone_studies(storage)
    trusts = [trust_in(study.name, storage) if study.repeat_epochs else Trust() for study in studies]
    for became in dict.fromkeys(gone.values()):
        typer.echo(became, err=True)
    if as_json:
        pairs = zip(studies, trusts, strict=True)
        print_json([asdict(study) | {"confirmation": confirmed_json(trust)} for study, trust in pairs])
        return
    if not studies:
        place = masked(resolve(storage))
        none = (
            f"No other studies in {place}." if gone else f"No studies in {place}. Start one with: tuner run STUDY.yaml"
        )
        typer.echo(none)
        return
    states = list(studies[0].counts)
    table = Table()
    for column in ("study", "is", *states, "best", "default", "epochs", "training"):
        table.add_column(column, justify="left" if column in ("study", "is") else "right")
    for study, trust in zip(studies, trusts, strict=True):
        table.add_row(
            study.name,
            _standing(study),
            *(str(study.counts.get(state, 0)) for state in states),
            *_best_and_default(study, trust),
            str(study.epochs),
            duration(study.cost.seconds),
        )
    print_table(table)
    if any(trust.confirmation for trust in trusts):
        typer.echo("With an interval: the mean of fresh seeds, and what holds the true mean with 95 %.")


def _best_and_default(study: StudySummary, trust: Trust) -> tuple[str, str]:
    """Their values: over all seeds, as far as these are known."""
    if (found := trust.confirmation) is not None:
        default = next(one for one in found.ranking.estimates if one.key == found.ranking.default)
        return _with_interval(found.winner), _with_interval(default)
    best = number(study.best[1] if study.best else None)
    return best, number(fmean(trust.noise.values) if trust.noise else study.default_value)


def _with_interval(found: Estimate | None) -> str:
    return number(None) if found is None else f"{found.mean:.4f} ({found.low:.4f} … {found.high:.4f})"


def _standing(study: StudySummary) -> str:
    """Whether it was paused or stopped, has ended, or goes on where a worker takes it."""
    from tuner.studies.state.records import TrialState

    if study.control:
        return study.control
    if study.problem:
        return "ended"
    under_way = study.counts[TrialState.RUNNING] + study.counts[TrialState.INTERRUPTED]
    return "finished" if study.spent and not under_way else "open"
