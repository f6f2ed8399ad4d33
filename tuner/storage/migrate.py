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
_LOCK_SECONDS = 60
"""Less than the time for which an answer of MySQL is waited for."""
_MYSQL_LOCK = f"concat('{VERSION_TABLE} ', sha1(database()))"
"""Of this database: MySQL's named locks hold for the whole server."""


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
    _refuse_newer(engine.url, found)
    place = masked(engine.url)
    if found is None:
        raise NoStudies(f"{place} holds no studies of tuner", hint="Start one with `tuner run`.")
    raise StorageError(
        f"{place} was made by an older tuner: its tables have version {found}, this tuner needs {wanted}",
        hint=f"Stop all workers, then run: tuner db upgrade{storage_option(engine.url)}",
    )


def _refuse_newer(url: URL, found: str | None) -> None:
    if found is not None and found not in _revisions():
        raise StorageError(
            f"{masked(url)} was made by a newer tuner: its tables have version {found}, this tuner knows {head()}",
            hint="Install the newer tuner on this machine.",
        )


def _revisions() -> set[str]:
    """Versions by the names of the migrations, rNNNN_what.py, each of which follows the one before."""
    return {path.stem[1:5] for path in MIGRATIONS.glob("versions/r[0-9][0-9][0-9][0-9]_*.py")}


def copy_older(engine: Engine, optuna: str | None) -> Path | None:
    """Copy an SQLite file with older tables, before they are changed; to be called with `schema_lock`.

    Args:
        engine: Of the database.
        optuna: The version of Optuna's tables where they change, too.

    Returns:
        The copy; None of a server, or where nothing is older.

    Raises:
        StorageError: Our tables are newer than this package's, or the file cannot be copied.
    """
    file, ours = sqlite_file(engine.url), current(engine)
    _refuse_newer(engine.url, ours)
    older = optuna if ours in (None, head()) else ours
    return None if file is None or older is None else _backup(engine.url, file, older)


def upgrade(engine: Engine) -> None:
    """Bring our tables to `head`, creating them where there are none; to be called with `schema_lock`."""
    from alembic import command

    if current(engine) == head():
        return
    config = _config()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        if sqlite_file(engine.url) is not None:  # for all changes, where Python would leave each its own transaction
            connection.exec_driver_sql("begin immediate")
        command.upgrade(config, "head")


@contextmanager
def schema_lock(engine: Engine) -> Iterator[None]:
    """Let one process at a time create or change tables; two that create them at once break each other.

    Raises:
        StorageError: Another process does so for longer than one waits; not on PostgreSQL, where one waits for good.
    """
    file = sqlite_file(engine.url)
    if file is not None:
        from filelock import FileLock, Timeout

        lock = FileLock(file.with_name(file.name + ".lock"))
        try:
            lock.acquire(timeout=_LOCK_SECONDS)
        except Timeout:
            raise _busy(engine.url) from None
        try:
            yield
        finally:
            lock.release()
        return
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":  # until the transaction ends, as a pooler may change sessions after it
            connection.execute(text(f"select pg_advisory_xact_lock({_LOCK_KEY})"))
            yield
            return
        # 0 after the time; NULL where the server failed
        if connection.scalar(text(f"select get_lock({_MYSQL_LOCK}, {_LOCK_SECONDS})")) != 1:
            raise _busy(engine.url)
        try:
            yield
        finally:
            connection.execute(text(f"select release_lock({_MYSQL_LOCK})"))


def _busy(url: URL) -> StorageError:
    return StorageError(
        f"another process has been changing the tables of {masked(url)} for {_LOCK_SECONDS} seconds",
        hint="Let it finish, or end it; then run the same command again.",
    )


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
