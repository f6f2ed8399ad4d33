"""`Database`: one connection pool for our tables, and Optuna's storage on the same URL."""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, Dialect, ExceptionContext
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session

from tuner.config.errors import NoStudies, StorageError, TunerError
from tuner.storage import migrate, optuna_storage
from tuner.storage.stalled import Connections
from tuner.storage.texts import require_unicode
from tuner.storage.trouble import asks_again, is_read_only, refused_options, translated
from tuner.storage.urls import EXTRAS, masked, resolve, sqlite_file

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

T = TypeVar("T")

_BUSY_SECONDS = 60.0
_RETRIES = 5
_FILE = "file"
"""What a connection to SQLite remembers of its file: path and inode."""


class Database:
    """A database of studies whose tables are there and of this package's version; made by `connect`."""

    def __init__(self, url: URL, engine: Engine) -> None:
        self.url = url
        self.engine = engine
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
                waited = time.monotonic() - begun > _BUSY_SECONDS
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
            storage = optuna_storage.open_storage(self.url, _engine_options(self.url), create=False)
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
        _make_folder(file.parent)
    engine = _engine(resolved)
    database = Database(resolved, engine)
    try:
        with database.errors():
            if create and migrate.current(engine) is None:
                require_unicode(engine)
                with migrate.schema_lock(engine):
                    if file is not None:
                        _use_wal(resolved, file)
                    theirs = optuna_storage.open_storage(resolved, _engine_options(resolved), create=True)
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
    engine, options = _engine(resolved), _engine_options(resolved)
    try:
        with Database(resolved, engine).errors(), migrate.schema_lock(engine):
            backup = migrate.copy_older(engine, optuna_storage.older_version(engine, options))
            migrate.upgrade(engine)
            optuna_storage.upgrade(resolved, options)
    finally:
        engine.dispose()
    return backup


def _engine(url: URL) -> Engine:
    backend = url.get_backend_name()
    try:
        engine = create_engine(url, **_engine_options(url))
    except ModuleNotFoundError as error:
        extra = EXTRAS.get(backend, backend)
        raise StorageError(
            f"{masked(url)} needs the Python package {error.name!r}, which is not installed",
            hint=f"Install it with: pip install 'tuner[{extra}]'",
        ) from None
    except (TypeError, ValueError) as error:
        raise refused_options(url, error) from error
    event.listen(engine, "do_connect", partial(_connect, url))
    if backend == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "checkout", _same_file)
    else:
        event.listen(engine, "handle_error", _leave_standby)
    return engine


def _connect(url: URL, dialect: Dialect, record: object, arguments: list[Any], options: dict[str, Any]) -> Any:
    try:
        return dialect.connect(*arguments, **options)
    except dialect.loaded_dbapi.Error:
        raise
    except Exception as error:  # drivers check few of their options
        raise refused_options(url, error) from error


def _engine_options(url: URL) -> dict[str, Any]:
    backend = url.get_backend_name()
    # A server may have been restarted since a connection was last used. A line that is cut shows after
    # some seconds, not after the quarter of an hour that TCP takes by itself.
    patience: dict[str, Any] = {"timeout": _BUSY_SECONDS} if backend == "sqlite" else {"connect_timeout": 10}
    needed: dict[str, Any] = {}
    if backend == "postgresql":
        patience |= {"tcp_user_timeout": 15_000, "keepalives_idle": 5, "keepalives_interval": 5, "keepalives_count": 2}
        needed["client_encoding"] = "utf8"  # whatever PGCLIENTENCODING says
        needed["prepare_threshold"] = None  # a pooler may run each transaction in another session
    elif backend == "mysql":
        patience |= {"read_timeout": 90, "write_timeout": 15}
    arguments = {name: value for name, value in patience.items() if name not in url.query} | needed
    return {"pool_pre_ping": backend != "sqlite", "connect_args": arguments}


def _prepare_sqlite(connection: Any, record: Any) -> None:
    connection.execute("pragma foreign_keys = on")
    file = Path(connection.execute("pragma database_list").fetchone()[2])
    record.info[_FILE] = file, _inode(file)


def _same_file(connection: Any, record: Any, proxy: Any) -> None:
    """Look whether the file still is the one that was opened: SQLite would write into one that was deleted.

    Raises:
        StorageError: It was deleted or replaced.
    """
    file, opened = record.info[_FILE]
    if _inode(file) != opened:
        raise StorageError(
            f"the database {file} was deleted or replaced while it was in use",
            hint="Put it back, with the files beside it that begin with its name; then the same command goes on.",
        )


def _inode(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _leave_standby(context: ExceptionContext) -> None:
    """Count a server that only reads as gone: after a failover a new connection finds the one that writes."""
    if is_read_only(context.original_exception):
        context.is_disconnect = True


def _use_wal(url: URL, file: Path) -> None:
    """Switch an SQLite file, for good, to the write-ahead log, with which readers and a writer do not wait.

    SQLite's own waiting does not cover this switch: it fails at once where another process holds the file.
    """
    deadline = time.monotonic() + _BUSY_SECONDS
    with closing(sqlite3.connect(file, timeout=_BUSY_SECONDS)) as connection:
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


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _no_folder(folder, error.strerror or str(error)) from None


def _no_folder(folder: Path, why: str) -> StorageError:
    return StorageError(
        f"the folder of the database, {folder}, cannot be made: {why}",
        hint="Name another place with --storage sqlite:///folder/file.db.",
    )
