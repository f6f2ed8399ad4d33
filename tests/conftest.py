"""Fixtures and helpers that all tests share."""

from __future__ import annotations

import gc
import os
import signal
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from tuner.config.openmp import spin_briefly

# A shell without job control starts background jobs with SIGINT ignored, which every child would inherit: the tests of
# Ctrl-C need children that hear it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Two test processes share the cores, of which torch would take all for each. Read when torch is imported.
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    cores = len(os.sched_getaffinity(0)) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores)))


spin_briefly(os.environ)

# All that is imported while tests are collected stays: to look for garbage among it takes a second each time.
gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def _own_threads() -> None:
    """What trains in a test's process, or in a fixture for it, sets torch's threads for all tests behind it."""
    if (torch := sys.modules.get("torch")) and "OMP_NUM_THREADS" in os.environ:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


_SERVERS = {"postgres": "TUNER_TEST_POSTGRES_URL", "mysql": "TUNER_TEST_MYSQL_URL"}


def skip_or_fail(reason: str) -> NoReturn:
    """Skip a test whose means are missing; fail it where TUNER_NO_SKIP says that nothing may be missing."""
    if os.environ.get("TUNER_NO_SKIP") == "1":
        pytest.fail(f"TUNER_NO_SKIP is set, but {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data beside the checkout."""
    folder = Path(__file__).parents[1].parent / "shared"
    if not folder.is_dir():
        skip_or_fail(f"there is no real data at {folder}")
    return folder


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with all tables and no study, which a test copies in less time than it takes to make one."""
    from tuner.storage.database import connect

    file = tmp_path_factory.mktemp("empty") / "tuner.db"
    connect(f"sqlite:///{file}").close()
    return file


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A database of the test alone, in SQLite."""
    return f"sqlite:///{tmp_path / 'studies' / 'tuner.db'}"


@pytest.fixture(params=["sqlite", *_SERVERS])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database of the test alone, in each of the supported servers."""
    with _database(request.param, tmp_path) as url:
        yield url


@pytest.fixture(scope="session", params=["sqlite", *_SERVERS])
def studies_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database for all tests that make a study of their own name, in each of the supported servers."""
    with _database(request.param, tmp_path_factory.mktemp("studies")) as url:
        yield url


@contextmanager
def _database(kind: str, folder: Path) -> Iterator[str]:
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'studies' / 'tuner.db'}"
        return
    server = os.environ.get(_SERVERS[kind])
    if not server:
        skip_or_fail(f"{_SERVERS[kind]} names no server to test with")
    import sqlalchemy as sa

    from tuner.storage.urls import resolve

    name = f"tuner_test_{uuid.uuid4().hex[:12]}"
    url = resolve(server)
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.execute(sa.text(f"create database {name}"))
    try:
        plain = url.set(drivername={"postgres": "postgresql", "mysql": "mysql"}[kind], database=name)
        yield plain.render_as_string(hide_password=False)
    finally:
        with engine.connect() as connection:
            force = " with (force)" if kind == "postgres" else ""
            connection.execute(sa.text(f"drop database {name}{force}"))
        engine.dispose()
