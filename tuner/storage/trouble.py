"""Errors of databases and their drivers, in a user's terms."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError

from tuner.config.errors import DiskError, StorageAway, StorageError, TunerError
from tuner.storage.urls import masked, sqlite_file

_POSTGRES_AGAIN = ("40001", "40P01", "55P03")
"""Serialisation failure, deadlock, lock not available."""
_POSTGRES_NO_PARENT, _MYSQL_NO_PARENT = "23503", 1452
"""Foreign-key violation."""
_MYSQL_AGAIN = (1020, 1205, 1213)
"""A row was changed since it was read (MariaDB, by default from 11.6.2 on), lock wait time-out, deadlock."""
_POSTGRES_READ_ONLY, _MYSQL_READ_ONLY = "25006", (1290, 1792, 1836)
_SQLITE_NO_ROOM = ("disk I/O error", "unable to open")
_LEAST_ROOM = 64 * 1024
"""Bytes: about what SQLite's log and shared memory begin with."""
_SQLITE_AWAY = ("locked", "disk I/O error", "unable to open")


def translated(url: URL, error: BaseException) -> TunerError:
    """What an error of a driver or of SQLAlchemy means to a user, without the password of the URL."""
    original = getattr(error, "orig", None) or error
    detail = str(original).strip().splitlines()[0] if str(original).strip() else type(original).__name__
    if url.password:
        detail = detail.replace(str(url.password), "***")
    file = sqlite_file(url)
    if "disk is full" in detail or "No space left" in detail or (file is not None and _full(detail, file)):
        return DiskError(f"the disk of {masked(url)} is full", hint="Free some space, then run the same command again.")
    if file is not None:
        kind = StorageAway if any(text in detail for text in _SQLITE_AWAY) else StorageError
        if "locked" in detail:
            return kind(
                f"the database {file} is locked: another process has been writing to it for long",
                hint="End that process, or let it finish; then the same command goes on.",
            )
        if file.exists() and not all(os.access(path, os.W_OK) for path in (file, file.parent)):
            needs = "it and its folder must be writable, to read it, too"
            return kind(
                f"the database {file} cannot be used, since {needs}: {detail}",
                hint="Copy it, with the files beside it that begin with its name, to a folder that is writable, and "
                "name the copy with --storage.",
            )
        return kind(
            f"the database {file} cannot be used: {detail}",
            hint="Check that the file is an SQLite database and that its folder is writable.",
        )
    kind = StorageAway if isinstance(error, (OperationalError, InterfaceError)) or _cut(error) else StorageError
    return kind(
        f"the database {masked(url)} cannot be used: {detail}",
        hint="Check that the server runs, and that host, user, password and name of the database are right.",
    )


def refused_options(url: URL, error: Exception) -> StorageError:
    """What it means that a driver failed with an error that is none of a database's, before it reached one."""
    return StorageError(
        f"the driver of {masked(url)} does not connect: {error}",
        hint="Check the options behind the ? of the URL, and that files that they name are there. TLS is asked for by "
        "?sslmode=require with PostgreSQL, and by ?ssl_ca=FILE with MySQL.",
    )


def _full(detail: str, file: Path) -> bool:
    """Whether SQLite failed for want of space, which it calls an I/O error where its shared memory has no room."""
    if not any(text in detail for text in _SQLITE_NO_ROOM):
        return False
    try:
        usage = shutil.disk_usage(file.parent)
    except OSError:
        return False
    return usage.total > 0 and usage.free < _LEAST_ROOM  # a file system like /proc has no room at all


def _cut(error: BaseException) -> bool:
    """Whether the connection was lost on the way."""
    return isinstance(error, DBAPIError) and error.connection_invalidated


def is_read_only(original: Any) -> bool:
    """Whether a server refused to write, by the error of its driver: it is a standby, or has become one."""
    return getattr(original, "sqlstate", None) == _POSTGRES_READ_ONLY or (
        bool(original.args) and original.args[0] in _MYSQL_READ_ONLY
    )


def refers_to_nothing(error: IntegrityError) -> bool:
    """Whether a row was refused because the one that it belongs to is not there any more."""
    original: Any = error.orig
    return (
        getattr(original, "sqlite_errorname", None) == "SQLITE_CONSTRAINT_FOREIGNKEY"
        or getattr(original, "sqlstate", None) == _POSTGRES_NO_PARENT
        or original.args[:1] == (_MYSQL_NO_PARENT,)
    )


def asks_again(error: BaseException | None) -> bool:
    """Whether the transaction gave way to another one, so that it may simply be run again.

    So it did where the other has made or deleted a row that this one refers to, which is seen the next time.
    """
    if isinstance(error, IntegrityError):
        return True
    if not isinstance(error, OperationalError):
        return False
    original: Any = error.orig
    if getattr(original, "sqlstate", None) in _POSTGRES_AGAIN:
        return True
    return (original.args and original.args[0] in _MYSQL_AGAIN) or "database is locked" in str(original)
