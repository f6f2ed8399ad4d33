"""Connection pools: what each kind of database and driver is told, and what is looked at on each connection."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, Dialect, ExceptionContext

from tuner.config.errors import StorageError
from tuner.storage.trouble import is_read_only, refused_options
from tuner.storage.urls import EXTRAS, masked

BUSY_SECONDS = 60.0
"""How long one waits for others who write."""
_FILE = "file"
"""What a connection to SQLite remembers of its file: path and inode."""


def make_engine(url: URL) -> Engine:
    """The connection pool of a database; nothing is connected yet.

    Raises:
        StorageError: The driver is not installed, or refuses an option of the URL.
    """
    backend = url.get_backend_name()
    try:
        engine = create_engine(url, **engine_options(url))
    except ModuleNotFoundError as error:
        extra = EXTRAS.get(backend, backend)
        raise StorageError(
            f"{masked(url)} needs the Python package {error.name!r}, which is not installed",
            hint=f"Install it with: pip install 'tuner[{extra}]'",
        ) from None
    except (TypeError, ValueError) as error:
        raise refused_options(url, error) from error
    opened: set[Path] = set()
    event.listen(engine, "do_connect", partial(_connect, url, opened))
    if backend == "sqlite":
        event.listen(engine, "connect", partial(_prepare_sqlite, opened))
        event.listen(engine, "checkout", _same_file)
    else:
        event.listen(engine, "handle_error", _leave_standby)
    return engine


def _connect(
    url: URL, opened: set[Path], dialect: Dialect, record: object, arguments: list[Any], options: dict[str, Any]
) -> Any:
    for file in opened:
        if not file.exists():  # SQLite would make an empty one
            raise _not_the_same(file)
    try:
        return dialect.connect(*arguments, **options)
    except dialect.loaded_dbapi.Error:
        raise
    except Exception as error:  # drivers check few of their options
        raise refused_options(url, error) from error


def engine_options(url: URL) -> dict[str, Any]:
    """What SQLAlchemy is told of a database beside its URL; what the URL says itself is left to it."""
    backend = url.get_backend_name()
    # A server may have been restarted since a connection was last used. A line that is cut shows after
    # some seconds, not after the quarter of an hour that TCP takes by itself.
    patience: dict[str, Any] = {"timeout": BUSY_SECONDS} if backend == "sqlite" else {"connect_timeout": 10}
    needed: dict[str, Any] = {}
    if backend == "postgresql":
        patience |= {"tcp_user_timeout": 15_000, "keepalives_idle": 5, "keepalives_interval": 5, "keepalives_count": 2}
        needed["client_encoding"] = "utf8"  # whatever PGCLIENTENCODING says
        needed["prepare_threshold"] = None  # a pooler may run each transaction in another session
    elif backend == "mysql":
        patience |= {"read_timeout": 90, "write_timeout": 15}
    arguments = {name: value for name, value in patience.items() if name not in url.query} | needed
    return {"pool_pre_ping": backend != "sqlite", "connect_args": arguments}


def _prepare_sqlite(opened: set[Path], connection: Any, record: Any) -> None:
    connection.execute("pragma foreign_keys = on")
    file = Path(connection.execute("pragma database_list").fetchone()[2])
    opened.add(file)
    record.info[_FILE] = file, _inode(file)


def _same_file(connection: Any, record: Any, proxy: Any) -> None:
    """Look whether the file still is the one that was opened: SQLite would write into one that was deleted.

    Raises:
        StorageError: It was deleted or replaced.
    """
    file, opened = record.info[_FILE]
    if _inode(file) != opened:
        raise _not_the_same(file)


def _not_the_same(file: Path) -> StorageError:
    return StorageError(
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
