"""`tuner delete`: remove a study with all that belongs to it."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from typing import Annotated

import typer

from tuner.cli.common import AsJson, Storage, StudyName, print_json
from tuner.config.errors import plural


def delete(
    study: StudyName,
    storage: Storage = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete a study: trials, checkpoints and pictures. There is no way back."""
    from tuner.studies.deleting import delete_study, to_delete

    trials, folder = to_delete(study, storage)
    if not yes:
        question = f"Delete study {study!r} with its {plural(trials, 'trial')} and the folder {folder}?"
        with redirect_stdout(sys.stderr):  # beside the JSON; click would print a blank before the answer on stdout
            typer.confirm(question, abort=True, err=True)
    delete_study(study, storage)
    if as_json:
        print_json({"deleted": study, "trials": trials})
    else:
        typer.echo(f"Deleted study {study!r} with its {plural(trials, 'trial')}.")
