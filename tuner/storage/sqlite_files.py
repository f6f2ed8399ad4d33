"""Files of SQLite: whether they are there or can be made, and how they are written."""

from __future__ import annotations

import os
import random
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from sqlalchemy.engine import URL

from tuner.config.errors import NoStudies, StorageError
from tuner.storage.engines import BUSY_SECONDS
from tuner.storage.trouble import translated
from tuner.storage.urls import resolve, sqlite_file


def require_database(url: str | None) -> None:
    """Check that a database of SQLite is there; a server says by itself when it has none of that name.

    Raises:
        NoStudies: There is no such file.
        StorageError: The URL is wrong.
    """
    file = sqlite_file(resolve(url))
    if file is not None and not file.exists():
        raise NoStudies(
            f"there is no database at {file}",
            hint="Start a study with `tuner run`, or name the database with --storage or TUNER_STORAGE.",
        )


def use_wal(url: URL, file: Path) -> None:
    """Switch an SQLite file, for good, to the write-ahead log, with which readers and a writer do not wait.

    SQLite's own waiting does not cover this switch: it fails at once where another process holds the file.
    """
    deadline = time.monotonic() + BUSY_SECONDS
    with closing(sqlite3.connect(file, timeout=BUSY_SECONDS)) as connection:
        while True:
            try:
                connection.execute("pragma journal_mode = wal")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise translated(url, error) from None
            time.sleep(random.uniform(0.01, 0.05))


def require_place(url: str | None) -> None:
    """Check that the file of an SQLite database can be made where it is not there yet, without making it.

    Raises:
        StorageError: It cannot.
    """
    file = sqlite_file(resolve(url))
    if file is None or file.exists():
        return
    nearest = next(folder for folder in file.parents if folder.exists())
    if not nearest.is_dir():
        raise _no_folder(file.parent, f"{nearest} is a file")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise _no_folder(file.parent, f"{nearest} is not writable")


def make_folder(folder: Path) -> None:
    """Make the folder of a file.

    Raises:
        StorageError: It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _no_folder(folder, error.strerror or str(error)) from None


def _no_folder(folder: Path, why: str) -> StorageError:
    return StorageError(
        f"the folder of the database, {folder}, cannot be made: {why}",
        hint="Name another place with --storage sqlite:///folder/file.db.",
    )
