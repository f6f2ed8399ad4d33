"""Tables of another version of this package or of Optuna: refused, and upgraded after a copy."""

from __future__ import annotations

import resource
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from old_study import add_study
from sqlalchemy import create_engine, inspect, text

from tuner.config.errors import StorageError
from tuner.storage import migrate
from tuner.storage.database import connect, upgrade
from tuner.storage.urls import resolve, sqlite_file

HEAD = migrate.head()


def _next_version(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package whose tables are one version further."""
    shutil.copytree(migrate.MIGRATIONS, folder)
    (folder / "versions" / "r9999_more.py").write_text(
        "import sqlalchemy as sa\nfrom alembic import op\n"
        f"revision, down_revision, branch_labels, depends_on = '9999', '{HEAD}', None, None\n"
        "def upgrade():\n    op.add_column('tuner_studies', sa.Column('note', sa.Text))\n"
        "def downgrade():\n    op.drop_column('tuner_studies', 'note')\n"
    )
    monkeypatch.setattr(migrate, "MIGRATIONS", folder)


def test_an_older_database_is_refused_then_upgraded_after_a_copy(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = connect(database_url)
    add_study(database)
    database.close()
    _next_version(tmp_path / "migrations", monkeypatch)
    with pytest.raises(
        StorageError, match=f"older tuner: its tables have version {HEAD}, this tuner needs 9999"
    ) as error:
        connect(database_url)
    assert "tuner db upgrade" in error.value.hint
    backup = upgrade(database_url)
    database = connect(database_url)
    with database.engine.connect() as connection:
        assert connection.execute(text("select name, note from tuner_studies")).all() == [("old", None)]
    database.close()
    if database_url.startswith("sqlite"):
        assert backup is not None
        with sqlite3.connect(backup) as copy:
            assert copy.execute("select name from tuner_studies").fetchall() == [("old",)]
            assert copy.execute(f"select version_num from {migrate.VERSION_TABLE}").fetchall() == [(HEAD,)]
        copy.close()
    else:
        assert backup is None
    assert upgrade(database_url) is None


def _set_version(url: str, table: str, version: str) -> None:
    engine = create_engine(resolve(url))
    with engine.begin() as connection:
        connection.execute(text(f"update {table} set version_num = '{version}'"))
    engine.dispose()


def _version(file: Path, table: str) -> str:
    with closing(sqlite3.connect(file)) as connection:
        return str(connection.execute(f"select version_num from {table}").fetchone()[0])


def test_a_database_of_an_older_optuna_alone_is_upgraded_after_a_copy(database_url: str) -> None:
    connect(database_url).close()
    _set_version(database_url, "alembic_version", "v3.0.0.d")
    database = connect(database_url)
    with pytest.raises(StorageError, match=r"tables of Optuna .* are of another version") as error:
        database.optuna  # noqa: B018
    assert "tuner db upgrade" in error.value.hint
    database.close()
    backup = upgrade(database_url)
    if database_url.startswith("sqlite"):
        assert backup is not None
        assert backup.name == "tuner.db.version-v3.0.0.d.backup"
        assert _version(backup, "alembic_version") == "v3.0.0.d"
        assert _version(backup, migrate.VERSION_TABLE) == HEAD
    else:
        assert backup is None
    database = connect(database_url)
    assert database.optuna.get_all_studies() == []
    database.close()
    assert upgrade(database_url) is None


@pytest.mark.parametrize(("table", "whose"), [("alembic_version", "Optuna"), (migrate.VERSION_TABLE, "tuner")])
def test_a_newer_database_is_not_upgraded(sqlite_url: str, table: str, whose: str) -> None:
    connect(sqlite_url).close()
    _set_version(sqlite_url, table, "9999")
    with pytest.raises(StorageError, match=f"made by a newer {whose}: .* version 9999") as error:
        upgrade(sqlite_url)
    assert "Install the newer" in error.value.hint
    assert list(Path(resolve(sqlite_url).database or "").parent.glob("*.backup*")) == []


@pytest.mark.parametrize("work", [connect, upgrade])
def test_tables_that_another_process_changes_are_left_to_it(
    database_url: str, work: Callable[[str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    if database_url.startswith("postgres"):
        pytest.skip("PostgreSQL waits for good")
    file = sqlite_file(resolve(database_url))
    if file is not None:
        file.parent.mkdir()
        file.touch()
    monkeypatch.setattr(migrate, "_LOCK_SECONDS", 1)
    engine = create_engine(resolve(database_url))
    with (
        migrate.schema_lock(engine),
        pytest.raises(StorageError, match=r"another process has been changing the tables of .* for 1 seconds") as error,
    ):
        work(database_url)
    assert "run the same command again" in error.value.hint
    assert inspect(engine).get_table_names() == []
    engine.dispose()
    connect(database_url).close()


def _take_back_two_versions(file: Path) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        for statement in (
            "drop table tuner_exports",
            "drop index ix_tuner_trials_states",
            "drop index ix_tuner_epochs_value",
            "create index ix_tuner_trials_state on tuner_trials (study_id, state)",
            f"update {migrate.VERSION_TABLE} set version_num = '0002'",
        ):
            connection.execute(statement)


def test_an_upgrade_that_fails_halfway_leaves_sqlite_as_it_was(sqlite_url: str) -> None:
    connect(sqlite_url).close()
    file = Path(sqlite_url.removeprefix("sqlite:///"))
    _take_back_two_versions(file)
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("create table tuner_exports (in_the_way)")
        with pytest.raises(StorageError, match="already exists"):
            upgrade(sqlite_url)
        indexes = connection.execute("select name from sqlite_master where name like 'ix_tuner_trials_state%'")
        assert indexes.fetchall() == [("ix_tuner_trials_state",)]
        connection.execute("drop table tuner_exports")
    assert upgrade(sqlite_url) is not None
    connect(sqlite_url, create=False).close()


def test_an_upgrade_without_room_for_the_copy_changes_nothing(sqlite_url: str) -> None:
    connect(sqlite_url).close()
    file = Path(sqlite_url.removeprefix("sqlite:///"))
    _take_back_two_versions(file)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, before[1]))  # a write beyond fails as on a full disk
    try:
        with pytest.raises(StorageError, match="cannot be used"):
            upgrade(sqlite_url)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(file.parent.glob("*.backup*")) == []
    assert upgrade(sqlite_url) is not None


def test_a_newer_database_is_refused(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as later:
        _next_version(tmp_path / "migrations", later)
        connect(sqlite_url).close()
    with pytest.raises(StorageError, match=f"newer tuner: its tables have version 9999, this tuner knows {HEAD}"):
        connect(sqlite_url)
