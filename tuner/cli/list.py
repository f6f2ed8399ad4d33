"""`tuner list`: the studies of a database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from tuner.cli.common import AsJson, Storage, duration, number, print_json
from tuner.cli.fitting import print_table

if TYPE_CHECKING:
    from tuner.studies.state.records import StudySummary


def list_(storage: Storage = None, as_json: AsJson = False) -> None:
    """List the studies of a database, one line each."""
    from dataclasses import asdict

    from rich.table import Table

    from tuner.storage.urls import masked, resolve
    from tuner.studies.reading import list_studies
    from tuner.studies.state.presence import gone_studies

    studies = list_studies(storage)
    gone = gone_studies(storage)
    for became in dict.fromkeys(gone.values()):
        typer.echo(became, err=True)
    if as_json:
        print_json([asdict(study) for study in studies])
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
    for study in studies:
        table.add_row(
            study.name,
            _standing(study),
            *(str(study.counts.get(state, 0)) for state in states),
            number(study.best[1] if study.best else None),
            number(study.default_value),
            str(study.epochs),
            duration(study.cost.seconds),
        )
    print_table(table)


def _standing(study: StudySummary) -> str:
    """Whether it was paused or stopped, has ended, or goes on where a worker takes it."""
    from tuner.studies.state.records import TrialState

    if study.control:
        return study.control
    if study.problem:
        return "ended"
    under_way = study.counts[TrialState.RUNNING] + study.counts[TrialState.INTERRUPTED]
    return "finished" if study.spent and not under_way else "open"
