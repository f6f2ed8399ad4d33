from __future__ import annotations

import builtins
import itertools
import multiprocessing
import shutil
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from old_study import add_study
from sqlalchemy import event, inspect, select, text, update
from sqlalchemy.orm import Session

from tuner.config.errors import StorageAway, StorageError
from tuner.storage import migrate
from tuner.storage.database import Database, connect
from tuner.storage.tables import Base, StudyRow, now
from tuner.storage.urls import resolve, sqlite_file

HEAD = migrate.head()


def _open(url: str, failures: Any) -> None:
    try:
        connect(url).close()
    except BaseException as error:
        failures.put(repr(error))


def test_a_new_database_is_made_by_the_migrations_and_equals_the_models(database_url: str) -> None:
    database = connect(database_url)
    assert migrate.current(database.engine) == migrate.head()
    with database.engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "version_table": migrate.VERSION_TABLE,
                "include_object": lambda thing, name, kind, *_: kind != "table" or name.startswith("tuner_"),
            },
        )
        differences = compare_metadata(context, Base.metadata)
    # MySQL gives each foreign key an index of its own.
    assert [d for d in differences if d[0] not in ("remove_index", "remove_table")] == []
    tables = set(inspect(database.engine).get_table_names())
    assert {"tuner_studies", "tuner_trials", "tuner_attempts", "tuner_epochs", "studies", "trials"} <= tables
    database.close()


def test_the_names_of_the_migrations_say_their_order() -> None:
    scripts = ScriptDirectory(str(migrate.MIGRATIONS))
    assert scripts.get_current_head() == migrate.head()
    for script in scripts.walk_revisions():
        assert Path(script.path).name.startswith(f"r{script.revision}_")


def test_the_clock_of_the_database_counts_seconds_since_1970(database_url: str) -> None:
    database = connect(database_url)
    assert abs(database.run(lambda session: session.scalar(select(now()))) - time.time()) < 60
    first, second = (database.run(lambda session: session.scalar(select(now()))) for _ in range(2))
    assert first <= second
    database.close()


def test_several_processes_may_make_a_database_at_once(database_url: str) -> None:
    context = multiprocessing.get_context("spawn")
    failures = context.Queue()
    processes = [context.Process(target=_open, args=(database_url, failures)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert failures.empty(), failures.get()
    database = connect(database_url)
    with database.engine.connect() as connection:
        assert connection.execute(text("select count(*) from alembic_version")).scalar() == 1
        assert connection.execute(text(f"select count(*) from {migrate.VERSION_TABLE}")).scalar() == 1
    database.close()


def test_sqlite_is_made_for_several_processes(sqlite_url: str) -> None:
    database = connect(sqlite_url)
    with database.engine.connect() as connection:
        assert connection.execute(text("pragma journal_mode")).scalar() == "wal"
        assert connection.execute(text("pragma busy_timeout")).scalar() == 60_000
        assert connection.execute(text("pragma foreign_keys")).scalar() == 1
    database.close()


def test_tables_are_made_as_soon_as_another_process_gives_the_file_free(sqlite_url: str) -> None:
    file = Path(sqlite_url.removeprefix("sqlite:///"))
    file.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(file, isolation_level=None, check_same_thread=False)) as other:
        for statement in ("create table other (x)", "begin immediate"):
            other.execute(statement)
        end_of_writing = threading.Timer(0.5, other.execute, ["commit"])
        end_of_writing.start()
        connect(sqlite_url).close()
        end_of_writing.join()


def test_optuna_uses_the_same_connections(database_url: str) -> None:
    connect(database_url).close()  # makes the tables
    database = connect(database_url)
    assert database.optuna.get_all_studies() == []
    asked: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda *arguments: asked.append(arguments[2]))
    assert database.optuna.get_all_studies() == []
    assert len(asked) == 4
    assert database.engine.pool.checkedin() == 1  # type: ignore[attr-defined]
    database.close()


def test_a_transaction_is_run_again_where_another_has_taken_its_place(database_url: str) -> None:
    database = connect(database_url)
    add_study(database)
    names = iter(["old", "new"])

    def add(session: Session) -> str:
        name = next(names)
        session.add(StudyRow(name=name, optuna_study_id=1 + len(name), spec={}, space={}, digest="", versions={}))
        session.flush()
        return name

    assert database.run(add) == "new"
    names = itertools.repeat("old")
    with pytest.raises(StorageError):
        database.run(add)
    database.close()


def test_a_transaction_is_run_again_where_another_changed_what_it_has_read(database_url: str) -> None:
    database = connect(database_url)
    strict = database_url.startswith("mysql") and _refuse_changed_rows(database)
    add_study(database)
    seen = []

    def rename(session: Session) -> None:
        seen.append(session.scalar(select(StudyRow.name)))
        if len(seen) == 1:
            with database.engine.begin() as other:
                other.execute(update(StudyRow).values(name="new"))
        session.execute(update(StudyRow).values(name=StudyRow.name.concat("er")))

    database.run(rename)
    assert database.run(lambda session: session.scalar(select(StudyRow.name))) == "newer"
    assert seen == (["old", "new"] if strict else ["old"])
    database.close()


def _refuse_changed_rows(database: Database) -> bool:
    """Have a MariaDB that can do so refuse as it does by default from 11.6.2 on, for the connections of the test."""
    with database.engine.connect() as connection:
        if connection.execute(text("show variables like 'innodb_snapshot_isolation'")).first() is None:
            return False
    database.engine.dispose()
    setting = "set session innodb_snapshot_isolation = on"
    event.listen(database.engine, "connect", lambda connection, _: connection.cursor().execute(setting))
    return True


@pytest.mark.parametrize("database_url", ["postgres", "mysql"], indirect=True)
def test_a_server_that_has_become_read_only_is_away_until_a_connection_finds_one_that_writes(database_url: str) -> None:
    database = connect(database_url)
    database.engine.dispose()  # so that it has one connection alone from here on
    characteristics = " characteristics as" if database_url.startswith("postgres") else ""
    with database.engine.connect() as connection:
        connection.exec_driver_sql(f"set session{characteristics} transaction read only")
        connection.commit()
    write = update(StudyRow).values(name="renamed")
    with pytest.raises(StorageAway, match=r"(?i)read.only transaction"):
        database.run(lambda session: session.execute(write) and None)
    database.run(lambda session: session.execute(write) and None)
    database.close()


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_nothing_outlives_a_transaction_in_a_session_that_a_pooler_may_give_to_another(database_url: str) -> None:
    database = connect(database_url)
    prepared = text("select count(*) from pg_prepared_statements")
    assert [database.run(lambda session: session.scalar(prepared)) for _ in range(10)] == [0] * 10
    holders = "select state from pg_locks join pg_stat_activity using (pid) where locktype = 'advisory'"
    with migrate.schema_lock(database.engine), database.engine.connect() as connection:
        found = connection.scalars(text(f"{holders} and datname = current_database()"))
        assert found.all() == ["idle in transaction"]
    database.close()


@pytest.mark.parametrize("backend", ["postgresql", "mysql"])
def test_a_server_out_of_reach_is_named_without_its_password(backend: str) -> None:
    with pytest.raises(StorageError) as error:
        connect(f"{backend}://user:hunter2@127.0.0.1:1/name")
    assert "user:***@127.0.0.1:1/name cannot be used" in error.value.message
    assert "hunter2" not in str(error.value)
    assert "server" in error.value.hint


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("mysql://u:secret@127.0.0.1/d?ssl-mode=REQUIRED", "unexpected keyword argument 'ssl-mode'"),
        ("mysql://u:secret@127.0.0.1/d?ssl_ca=/none.pem", "No such file or directory"),
        ("mysql://u:secret@127.0.0.1/d?connect_timeout=soon", "invalid literal for int"),
    ],
)
def test_options_that_a_driver_does_not_know_are_named(url: str, why: str) -> None:
    with pytest.raises(StorageError, match=why) as error:
        connect(url)
    assert error.value.message.startswith("the driver of mysql+pymysql://u:***@127.0.0.1/d?")
    assert "?ssl_ca=FILE with MySQL" in error.value.hint


def test_a_time_limit_in_the_url_is_kept(database_url: str) -> None:
    backend = resolve(database_url).get_backend_name()
    option = {"sqlite": "timeout=7", "postgresql": "connect_timeout=7", "mysql": "read_timeout=7"}[backend]
    database = connect(f"{database_url}?{option}")
    with database.engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        if backend == "sqlite":
            assert driver.execute("pragma busy_timeout").fetchone() == (7000,)
        elif backend == "postgresql":
            assert driver.info.get_parameters()["connect_timeout"] == "7"
            assert driver.info.get_parameters()["tcp_user_timeout"] == "15000"
        else:
            assert (driver._read_timeout, driver._write_timeout) == (7, 15)
    database.close()


@pytest.mark.parametrize(("url", "extra"), [("postgresql://h/d", "postgres"), ("mysql://h/d", "mysql")])
def test_a_missing_driver_names_the_extra(url: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__
    driver = {"postgres": "psycopg", "mysql": "pymysql"}[extra]

    def without_driver(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == driver:
            raise ModuleNotFoundError(f"No module named {driver!r}", name=driver)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_driver)
    with pytest.raises(StorageError, match=f"'{driver}', which is not installed") as error:
        connect(url)
    assert f"tuner[{extra}]" in error.value.hint


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_text("no database at all, but long enough to have a header" * 10)
    with pytest.raises(StorageError, match=r"notes\.db cannot be used: file is not a database"):
        connect(f"sqlite:///{tmp_path}/notes.db")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be made"):
        connect(f"sqlite:///{tmp_path}/file/tuner.db")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc")
def test_a_file_system_without_room_of_its_own_is_not_called_full() -> None:
    with pytest.raises(StorageError, match=r"/proc/x\.db cannot be used: unable to open") as error:
        connect("sqlite:////proc/x.db")
    assert "its folder is writable" in error.value.hint


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_nothing_is_written_into_a_file_that_is_not_there_any_more(sqlite_url: str, how: str) -> None:
    database = connect(sqlite_url)
    file = sqlite_file(resolve(sqlite_url))
    assert file is not None
    if how == "replaced":
        shutil.copy(file, file.with_name("copy.db")).replace(file)
    else:
        file.unlink()
    for _ in range(2 if how == "deleted" else 1):  # on the connection that is open, and on a new one
        with pytest.raises(StorageError, match=r"tuner\.db was deleted or replaced while it was in use"):
            database.run(lambda session: session.scalar(select(now())))
    assert file.exists() == (how == "replaced")
    database.close()


def test_looking_makes_no_database(sqlite_url: str) -> None:
    with pytest.raises(StorageError, match="there is no database"):
        connect(sqlite_url, create=False)
    assert not Path(resolve(sqlite_url).database or "").parent.exists()


def test_an_optuna_database_without_our_tables(sqlite_url: str) -> None:
    import optuna

    Path(resolve(sqlite_url).database or "").parent.mkdir()
    storage = optuna.storages.RDBStorage(sqlite_url)
    optuna.create_study(study_name="theirs", storage=storage)
    storage.remove_session()
    storage.engine.dispose()
    with pytest.raises(StorageError, match="holds no studies of tuner"):
        connect(sqlite_url, create=False)
    database = connect(sqlite_url)
    assert [study.study_name for study in database.optuna.get_all_studies()] == ["theirs"]
    database.close()


def test_a_database_that_cannot_be_written_says_how_it_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a medium that may only be read: SQLite's log makes files beside it for readers, too."""
    file = tmp_path / "tuner.db"
    connect(f"sqlite:///{file}").close()
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path)
    shm, wal = (tmp_path / f"tuner.db{end}" for end in ("-shm", "-wal"))
    for blocking in (shm, wal):  # a test that is run by root may write anywhere
        blocking.unlink(missing_ok=True)
        blocking.mkdir()
    with pytest.raises(StorageError, match="its folder must be writable, to read it, too") as refused:
        connect(f"sqlite:///{file}", create=False)
    assert refused.value.hint.startswith("Copy it, with the files beside it")
