"""`tuner db`: care of the database."""

from __future__ import annotations

import typer

from tuner.cli.common import Storage

db = typer.Typer(no_args_is_help=True, help="Care of the database of studies.")


@db.callback()
def _group() -> None:
    """Care of the database of studies."""


@db.command()
def upgrade(storage: Storage = None) -> None:
    """Bring the tables of an older tuner to this version; an SQLite file is copied before. Stop all workers first."""
    from tuner.storage.database import connect
    from tuner.storage.database import upgrade as upgrade_database
    from tuner.storage.urls import masked, resolve

    backup = upgrade_database(storage)
    connect(storage, create=False).close()
    typer.echo(f"{masked(resolve(storage))} has the tables of this version.")
    if backup is not None:
        typer.echo(f"The database as it was before: {backup}")
