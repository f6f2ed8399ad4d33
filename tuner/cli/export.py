"""`tuner export`: the best config of a study as a file for production training."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tuner.cli.coloured import secho
from tuner.cli.common import Storage, StudyName, refuse_folder

if TYPE_CHECKING:
    from tuner.export.production import Provenance
    from tuner.studies.study import Study


def export(
    study: StudyName,
    output: Annotated[Path, typer.Option("-o", "--output", help="YAML file to write.")],
    trial: Annotated[
        int | None, typer.Option(help="Number of the trial.", show_default="the confirmed or best one")
    ] = None,
    storage: Storage = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Write the best config, its operating point and where both came from, for `tuner train`."""
    refuse_folder(output, "best.yaml")
    from tuner.config.errors import StorageError
    from tuner.export.production import production_config
    from tuner.export.yaml_files import save_production
    from tuner.studies.opening import open_study

    opened = open_study(study, storage)
    production = production_config(opened, trial)
    save_production(production, output, force=force)
    source = production.provenance
    try:
        opened.exported(source.trial, output, production.model_dump(mode="json"))
    except StorageError as error:  # of a study that may only be read
        secho(f"warning: the study does not know of this export: {error.message}", fg="yellow", err=True)
    equal = _equal_default(opened, source.trial)
    opened.close()
    typer.echo(f"{output}: trial {source.trial}, {source.objective.metric} {source.value:.4f}{_against(source)}")
    secho(source.trust, fg="yellow" if not source.confirmed else None)
    if equal is not None:
        typer.echo(f"The default config, about equal, is exported by --trial {equal}.")
    if production.built_in:
        typer.echo(f"Next: tuner train {shlex.quote(str(output))} -o model/")
    else:
        trainer = source.own_trainer or "its own trainer"
        typer.echo(f"Next: train with it as {trainer} does: tuner.load_production({str(output)!r}).config in Python")


def _against(source: Provenance) -> str:
    """The difference from the default config: of means over fresh seeds where there are some, else of one run each."""
    found, runs = source.confirmation, ""
    difference = None if source.default_value is None else source.value - source.default_value
    if found is not None:
        difference, runs = found.mean - found.default_mean, f" in the mean of {len(found.seeds)} fresh seeds"
        if found.probability is None:
            return ", the default config"
    if difference is None:
        return ""
    rounded = round(difference, 4)
    if not rounded:
        return f", as the default config{runs}"
    better = (rounded > 0) == (source.objective.direction == "maximize")
    if better and rounded > 0:
        return f", {rounded:+.4f} over the default config{runs}"
    side, praise = "below" if rounded < 0 else "above", ", which is better" if better else ""
    return f", {abs(rounded):.4f} {side} the default config{runs}{praise}"


def _equal_default(study: Study, trial: int) -> int | None:
    """Number of the default config's trial, where more runs would hardly tell the confirmed winner from it."""
    from tuner.cli.trust import trust_of

    found = trust_of(study).confirmation
    if found is None or not found.about_equal or found.winner is None or found.winner.key != trial:
        return None
    return found.ranking.default
