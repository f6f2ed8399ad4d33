"""`tuner db upgrade` on a database that an older version of this package made."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import Connection, Engine, create_engine
from test_help import tuner

from tests.cli.project import Project
from tuner.storage import migrate
from tuner.storage.database import connect
from tuner.storage.urls import resolve
from tuner.studies.opening import open_study


def _make_old(url: str) -> Path:
    """A database with the tables of the first version."""
    connect(url).close()
    file = Path(resolve(url).database or "")
    engine = create_engine(resolve(url))
    with engine.begin() as connection:
        connection.exec_driver_sql("pragma foreign_keys = off")
        connection.exec_driver_sql(f"delete from {migrate.VERSION_TABLE}")
        for name in _tables(connection):
            connection.exec_driver_sql(f"drop table {name}")
        config = migrate._config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    engine.dispose()
    return file


def _tables(connection: Connection) -> list[str]:
    """Our tables that are left."""
    rows = connection.exec_driver_sql("select name from sqlite_master where type = 'table'")
    return [name for (name,) in rows if name.startswith("tuner_") and name != migrate.VERSION_TABLE]


def test_an_old_database_is_copied_and_upgraded(sqlite_url: str) -> None:
    file = _make_old(sqlite_url)
    if migrate.head() == "0001":
        pytest.skip("there is one version only")
    refused = tuner("list", "--storage", sqlite_url)
    assert refused.returncode == 1
    assert "tuner db upgrade" in refused.stderr
    answer = tuner("db", "upgrade", "--storage", sqlite_url)
    assert answer.returncode == 0, answer.stderr
    assert "INFO" not in answer.stderr  # from Optuna, whose tables are as they should be
    backup = file.with_name(f"{file.name}.version-0001.backup")
    assert str(backup) in answer.stdout
    with sqlite3.connect(backup) as copy:
        assert copy.execute(f"select version_num from {migrate.VERSION_TABLE}").fetchall() == [("0001",)]
    copy.close()
    assert tuner("list", "--storage", sqlite_url).returncode == 0
    again = tuner("db", "upgrade", "--storage", sqlite_url)
    assert again.returncode == 0
    assert "before" not in again.stdout


def test_tables_of_an_older_optuna_are_changed_after_a_copy_without_a_word_of_alembic(sqlite_url: str) -> None:
    connect(sqlite_url).close()
    file = Path(resolve(sqlite_url).database or "")
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("update alembic_version set version_num = 'v3.0.0.d'")
        connection.commit()
    answer = tuner("db", "upgrade", "--storage", sqlite_url)
    assert answer.returncode == 0, answer.stderr
    assert "INFO" not in answer.stderr
    assert str(file.with_name(f"{file.name}.version-v3.0.0.d.backup")) in answer.stdout


def test_an_old_database_keeps_its_rows_and_its_study_goes_on(
    project: Project, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = ("--storage", database_url)
    project.misbehave(all={"seconds": 0.0})
    (project.folder / "tuner-studies").mkdir()
    project.run(*storage, "--trials", "2")
    study = open_study("cells", database_url)
    before = study.trials()
    _bring_back(study.database.engine)
    study.close()
    assert "tuner db upgrade" in project.main(capsys, "status", *storage, code=1)
    project.main(capsys, "db", "upgrade", *storage)
    assert "budget is spent (3 of 3 trials)" in project.run(*storage, "--trials", "3")
    study = open_study("cells", database_url)
    after = study.trials()
    study.close()
    assert after[:2] == before
    assert len(after[2].epochs) == 4


def _bring_back(engine: Engine) -> None:
    """The tables of the first version, with what stands in them."""
    config = migrate._config()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0001")


def test_a_database_that_is_not_there_is_named(sqlite_url: str) -> None:
    answer = tuner("db", "upgrade", "--storage", sqlite_url)
    assert answer.returncode == 1
    assert "there is no database" in answer.stderr
