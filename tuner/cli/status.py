"""`tuner status`: how studies stand."""

from __future__ import annotations

from typing import Annotated

import typer

from tuner.cli.coloured import secho
from tuner.cli.common import AsJson, Storage, number, print_json


def status(
    study: Annotated[str | None, typer.Argument(metavar="STUDY", help="Name of the study.", show_default="all")] = None,
    storage: Storage = None,
    as_json: AsJson = False,
) -> None:
    """Show counts, running trials, the best so far and the cost."""
    from dataclasses import asdict

    from tuner.cli.summary import last_failure, only_failures, print_cost, print_findings
    from tuner.cli.trust import Trust, print_trust, shown_gain, trust_in, trust_json
    from tuner.storage.urls import masked, resolve, storage_option
    from tuner.studies.reading import list_studies, read_study
    from tuner.studies.state.records import TrialState

    names = [study] if study else [found.name for found in list_studies(storage)]
    result = []
    for name in names:
        opened = read_study(name, storage)
        found = opened.summary()
        running = opened.trials(states=[TrialState.RUNNING], epochs=False)
        trust = trust_in(name, storage) if opened.has_repeats() else Trust()
        gain = shown_gain(found, opened.spec, trust)
        if as_json:
            rows = [
                {"trial": t.number, "epoch": t.last_epoch, "epochs": t.config.epochs, "value": t.value} for t in running
            ]
            opened.close()
            result.append(asdict(found) | {"running": rows} | trust_json(trust, gain))
            continue
        secho(name, bold=True)
        print_findings(found, gain)
        print_trust(trust)
        for t in running:
            typer.echo(f"running    trial {t.number} at epoch {t.last_epoch}/{t.config.epochs}, {number(t.value)}")
        print_cost(found)
        if only_failures(found):
            secho(f"failed     {last_failure(opened)}", fg="red")
        opened.close()
        if found.control:
            why = found.control_reason or "by an order from outside"
            there = storage_option(opened.database.url)
            secho(f"{found.control:<10} {why}; go on: tuner resume {name}{there}", fg="yellow")
        elif found.spent:
            typer.echo(f"budget     spent: {found.spent}")
        if found.problem:
            secho(f"ended      {found.problem}", fg="red")
    if as_json:
        print_json(result[0] if study else result)
    elif not names:
        place = masked(resolve(storage))
        typer.echo(f"No studies in {place}. Start with `tuner demo`, or with `tuner init` and `tuner run`.")
