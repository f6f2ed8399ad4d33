"""`Database`: one connection pool for our tables, and Optuna's storage on the same URL."""

from __future__ import annotations

import random
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import Engine
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session

from tuner.config.errors import StorageError, TunerError
from tuner.storage import migrate, optuna_storage
from tuner.storage.engines import BUSY_SECONDS, engine_options, make_engine
from tuner.storage.sqlite_files import make_folder, require_database, use_wal
from tuner.storage.stalled import Connections
from tuner.storage.texts import require_unicode
from tuner.storage.trouble import asks_again, translated
from tuner.storage.urls import masked, resolve, sqlite_file

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

T = TypeVar("T")

_RETRIES = 5


class Database:
    """A database of studies whose tables are there and of this package's version; made by `connect`."""

    def __init__(self, url: URL, engine: Engine) -> None:
        self.url = url
        self.engine = engine
        weakref.finalize(self, engine.dispose)  # a command that has read a study and ends closes nothing
        self._connections = Connections(engine) if url.get_backend_name() == "postgresql" else None

    def __repr__(self) -> str:
        return f"Database({masked(self.url)})"

    def run(self, work: Callable[[Session], T]) -> T:
        """Run `work` in one transaction, and again where it gave way to another (see `asks_again`).

        Raises:
            StorageAway: The database cannot be reached.
            StorageError: The database refuses.
            DiskError: Its disk is full.
        """
        begun = time.monotonic()
        for attempt in range(_RETRIES):
            try:
                with self.errors(), Session(self.engine, expire_on_commit=False) as session, session.begin():
                    return work(session)
            except StorageError as error:
                waited = time.monotonic() - begun > BUSY_SECONDS
                if attempt == _RETRIES - 1 or waited or not asks_again(error.__cause__):
                    raise
            time.sleep(random.uniform(0.02, 0.1) * 2**attempt)
        raise AssertionError("the last attempt returns or raises")

    def abandon(self) -> None:
        """Give up what waits for an answer of the server, from another thread; it fails as if the line was cut."""
        if self._connections is not None:
            self._connections.abandon()

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn errors of the drivers, SQLAlchemy and Optuna's storage into `StorageError`, without passwords."""
        try:
            yield
        except DBAPIError as error:
            raise translated(self.url, error) from error
        except TunerError:
            raise
        except Exception as error:  # Optuna hides the cause in an exception of its own
            if not isinstance(error.__cause__, SQLAlchemyError):
                raise
            raise translated(self.url, error.__cause__) from error.__cause__

    @cached_property
    def optuna(self) -> BaseStorage:
        """Optuna's storage on the same connections, with the cache that Optuna puts before a relational one."""
        from optuna.storages import get_storage

        with self.errors():
            storage = optuna_storage.open_storage(self.url, engine_options(self.url), create=False)
            optuna_storage.release(storage)
            storage.engine = self.engine
            storage.scoped_session.configure(bind=self.engine)
            return get_storage(storage)

    def close(self) -> None:
        """Give the connections back."""
        storage = self.__dict__.pop("optuna", None)
        if storage is not None:
            getattr(storage, "_backend", storage).remove_session()
        self.engine.dispose()


def connect(url: str | None = None, *, create: bool = True) -> Database:
    """Connect to a database of studies.

    Args:
        url: Its URL; None for the default (see `tuner.storage.urls.resolve`).
        create: Whether a new SQLite file and missing tables are made.

    Raises:
        NoStudies: There is no database, or no tables in it, and none shall be made.
        StorageError: The URL is wrong, its driver is not installed, the database cannot be reached, or its
            tables are of another version; the password is masked.
    """
    resolved = resolve(url)
    file = sqlite_file(resolved)
    if not create:
        require_database(url)
    elif file is not None and not file.exists():
        make_folder(file.parent)
    engine = make_engine(resolved)
    database = Database(resolved, engine)
    try:
        with database.errors():
            if create and migrate.current(engine) is None:
                require_unicode(engine)
                with migrate.schema_lock(engine):
                    if file is not None:
                        use_wal(resolved, file)
                    theirs = optuna_storage.open_storage(resolved, engine_options(resolved), create=True)
                    optuna_storage.release(theirs)
                    # Ours come last: where they are, Optuna's are.
                    migrate.upgrade(engine)
            migrate.check(engine)
    except BaseException:
        engine.dispose()
        raise
    return database


def upgrade(url: str | None = None) -> Path | None:
    """Bring an older database, our tables and Optuna's, to the version of this package.

    Returns:
        The copy that was made of an SQLite file with older tables, else None.

    Raises:
        StorageError: The database cannot be used, its tables are newer, or another process changes them.
    """
    resolved = resolve(url)
    file = sqlite_file(resolved)
    if file is not None and not file.exists():
        raise StorageError(f"there is no database at {file}", hint="Name it with --storage.")
    engine, options = make_engine(resolved), engine_options(resolved)
    try:
        with Database(resolved, engine).errors(), migrate.schema_lock(engine):
            backup = migrate.copy_older(engine, optuna_storage.older_version(engine, options))
            migrate.upgrade(engine)
            optuna_storage.upgrade(resolved, options)
    finally:
        engine.dispose()
    return backup
