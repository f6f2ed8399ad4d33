"""`tuner export`: the best config of a study as a file for production training."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from tuner.cli.coloured import secho
from tuner.cli.common import Storage, StudyName


def export(
    study: StudyName,
    output: Annotated[Path, typer.Option("-o", "--output", help="YAML file to write.")],
    trial: Annotated[int | None, typer.Option(help="Number of the trial; default: the confirmed or best one.")] = None,
    storage: Storage = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Write the best config, its operating point and where both came from, for `tuner train`."""
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
    opened.close()
    gain = "" if source.gain is None else f", {round(source.gain, 4) + 0.0:+.4f} over the default config"
    typer.echo(f"{output}: trial {source.trial}, {source.objective.metric} {source.value:.4f}{gain}")
    secho(source.trust, fg="yellow" if not source.confirmed else None)
    typer.echo(f"Next: tuner train {shlex.quote(str(output))} -o model/")
