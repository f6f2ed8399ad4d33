"""Optuna's own storage on a database of ours: opened, and brought to the version of the Optuna that is installed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Engine, inspect

from tuner.config.errors import StorageError
from tuner.storage.urls import masked, storage_option

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

Options = dict[str, Any]
"""Of SQLAlchemy's engine."""


def open_storage(url: URL, options: Options, *, create: bool) -> RDBStorage:
    """Optuna's storage, with connections of its own; with its tables where `create`.

    Raises:
        StorageError: The tables are of another version.
    """
    import optuna

    storage = _of_any_version(url, options, create=create)
    if storage.get_current_version() != _installed_version(storage):
        release(storage)
        raise StorageError(
            f"the tables of Optuna in {masked(url)} are of another version than Optuna {optuna.__version__}",
            hint=f"Stop all workers, then run: tuner db upgrade{storage_option(url)}",
        )
    return storage


def release(storage: RDBStorage) -> None:
    """Close the connections that Optuna's storage made for itself."""
    storage.remove_session()
    storage.engine.dispose()


def older_version(engine: Engine, options: Options) -> str | None:
    """The version of Optuna's tables where it is older than that of the installed Optuna.

    Raises:
        StorageError: It is newer.
    """
    if not inspect(engine).has_table("version_info"):
        return None
    storage = _of_any_version(engine.url, options, create=False)
    found, head, known = storage.get_current_version(), _installed_version(storage), storage.get_all_versions()
    release(storage)
    if found not in known:
        raise StorageError(
            f"the tables of Optuna in {masked(engine.url)} were made by a newer Optuna: they have version {found}, "
            f"the installed one knows {head}",
            hint="Install the newer Optuna on this machine: pip install -U optuna",
        )
    return None if found == head else found


def upgrade(url: URL, options: Options) -> None:
    """Bring Optuna's tables to the version of the installed Optuna, creating them where there are none."""
    storage = _of_any_version(url, options, create=True)
    try:
        if storage.get_current_version() != _installed_version(storage):
            with _silent():
                storage.upgrade()
    finally:
        release(storage)


def _of_any_version(url: URL, options: Options, *, create: bool) -> RDBStorage:
    from optuna.storages import RDBStorage

    return RDBStorage(_optuna_url(url), options, skip_compatibility_check=True, skip_table_creation=not create)


_heads: dict[str, str] = {}
"""Version of the tables by version of Optuna: kept, as Optuna loads all its migrations each time that it is asked."""


def _installed_version(storage: RDBStorage) -> str:
    """The version of the tables that the installed Optuna works with."""
    import optuna

    if optuna.__version__ not in _heads:
        _heads[optuna.__version__] = storage.get_head_version()
    return _heads[optuna.__version__]


@contextmanager
def _silent() -> Iterator[None]:
    """Keep Optuna's migrations from setting up the process's logging, in which alembic announces each at INFO."""
    root, handler = logging.getLogger(), logging.NullHandler()
    root.addHandler(handler)  # they do so where the root logger has none
    try:
        yield
    finally:
        root.removeHandler(handler)


def _optuna_url(url: URL) -> str:
    # Optuna puts its URL through str.format.
    return url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")
