"""Versions of our tables: created and upgraded by the alembic migrations inside the package.

Alembic is imported only where tables are made or changed: it takes longer than most commands that only read.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import URL, Engine, column, inspect, select, table, text

from tuner.config.errors import NoStudies, StorageError
from tuner.storage.trouble import translated
from tuner.storage.urls import masked, sqlite_file, storage_option

if TYPE_CHECKING:
    from alembic.config import Config

VERSION_TABLE = "tuner_alembic_version"
"""Where our version is kept; Optuna keeps its own in `alembic_version`."""
MIGRATIONS = Path(__file__).with_name("migrations")
_LOCK_KEY = 7_466_827
_LOCK_SECONDS = 120


def current(engine: Engine) -> str | None:
    """The version of the tables in a database; None where there are none."""
    if not inspect(engine).has_table(VERSION_TABLE):
        return None
    with engine.connect() as connection:
        return connection.scalar(select(column("version_num")).select_from(table(VERSION_TABLE)))


def head() -> str:
    """The version of the tables that this package works with."""
    return max(_revisions())


def check(engine: Engine) -> None:
    """Refuse a database whose tables are older or newer than this package's.

    Raises:
        NoStudies: There are none.
        StorageError: Says which versions met, and what to do.
    """
    found, wanted = current(engine), head()
    if found == wanted:
        return
    place = masked(engine.url)
    if found is not None and found not in _revisions():
        raise StorageError(
            f"{place} was made by a newer tuner: its tables have version {found}, this tuner knows {wanted}",
            hint="Install the newer tuner on this machine.",
        )
    if found is None:
        raise NoStudies(f"{place} holds no studies of tuner", hint="Start one with `tuner run`.")
    raise StorageError(
        f"{place} was made by an older tuner: its tables have version {found}, this tuner needs {wanted}",
        hint=f"Stop all workers, then run: tuner db upgrade{storage_option(engine.url)}",
    )


def _revisions() -> set[str]:
    """Versions by the names of the migrations, rNNNN_what.py, each of which follows the one before."""
    return {path.stem[1:5] for path in MIGRATIONS.glob("versions/r[0-9][0-9][0-9][0-9]_*.py")}


def upgrade(engine: Engine) -> Path | None:
    """Bring our tables to `head`, creating them where there are none. An SQLite file is copied before.

    Returns:
        The copy that was made of an SQLite database with older tables, else None.
    """
    from alembic import command

    backup = None
    with schema_lock(engine):
        found = current(engine)
        if found == head():
            return None
        file = sqlite_file(engine.url)
        if found is not None and file is not None:
            backup = _backup(engine.url, file, found)
        config = _config()
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            if file is not None:  # for all changes, where Python would leave each its own transaction
                connection.exec_driver_sql("begin immediate")
            command.upgrade(config, "head")
    return backup


@contextmanager
def schema_lock(engine: Engine) -> Iterator[None]:
    """Let one process at a time create or change tables; two that create them at once break each other."""
    file = sqlite_file(engine.url)
    if file is not None:
        from filelock import FileLock

        with FileLock(file.with_name(file.name + ".lock"), timeout=_LOCK_SECONDS):
            yield
        return
    take, give = {
        "postgresql": (f"select pg_advisory_lock({_LOCK_KEY})", f"select pg_advisory_unlock({_LOCK_KEY})"),
        "mysql": (f"select get_lock('{VERSION_TABLE}', {_LOCK_SECONDS})", f"select release_lock('{VERSION_TABLE}')"),
    }[engine.dialect.name]
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(take))
        try:
            yield
        finally:
            connection.execute(text(give))


def _config() -> Config:
    from alembic.config import Config

    # Alembic announces each migration at INFO, which is no business of a user of this package.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


def _backup(url: URL, file: Path, version: str) -> Path:
    target = file.with_name(f"{file.name}.version-{version}.backup")
    count = 1
    while target.exists():
        count += 1
        target = file.with_name(f"{file.name}.version-{version}.backup{count}")
    try:
        with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(target)) as copy:
            source.backup(copy)
    except sqlite3.Error as error:
        target.unlink(missing_ok=True)
        raise translated(url, error) from error
    return target
