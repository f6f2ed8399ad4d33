"""Texts of others, made such that every database takes them."""

from __future__ import annotations

from contextlib import closing

import pytest
import sqlalchemy as sa

from tuner.config.errors import StorageError
from tuner.storage.database import connect
from tuner.storage.texts import LONGEST, storable
from tuner.storage.urls import resolve


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("", ""),
        ("写真 🙂 →\n", "写真 🙂 →\n"),
        ("caf\udce9 \0", r"caf\udce9 \x00"),
        ("a" * LONGEST, "a" * LONGEST),
    ],
)
def test_what_a_database_refuses_is_escaped(text: str, stored: str) -> None:
    assert storable(text) == stored
    assert storable(stored) == stored


@pytest.mark.parametrize("text", ["a" * LONGEST + "b", "\0" * LONGEST, "🙂" * 3 * LONGEST])
def test_a_long_text_keeps_its_beginning_and_its_end(text: str) -> None:
    short = storable(text)
    assert len(short) == LONGEST
    assert short.count("…") == 1
    assert short[0] + short[-1] == storable(text[0])[0] + storable(text[-1])[-1]
    assert storable(short) == short


def execute(url: str, statement: str) -> None:
    engine = sa.create_engine(resolve(url), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.execute(sa.text(statement))


@pytest.mark.parametrize("database_url", ["mysql"], indirect=True)
@pytest.mark.parametrize("encoding", ["latin1", "utf8mb3"])
def test_a_mysql_database_that_holds_not_every_character_is_refused_until_it_is_changed(
    database_url: str, encoding: str
) -> None:
    name = resolve(database_url).database
    execute(database_url, f"alter database {name} character set {encoding}")
    with pytest.raises(StorageError, match=f"has the encoding {encoding}, .* need utf8mb4") as error:
        connect(database_url)
    remedy = error.value.hint.removeprefix("Change it: ")
    assert remedy == f"ALTER DATABASE `{name}` CHARACTER SET utf8mb4;"
    execute(database_url, remedy)
    connect(database_url).close()


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_postgresql_database_that_holds_not_every_character_is_refused(database_url: str, encoding: str) -> None:
    name = f"{resolve(database_url).database}_{encoding.lower()}"
    execute(
        database_url, f"create database {name} encoding '{encoding}' lc_collate 'C' lc_ctype 'C' template template0"
    )
    other = resolve(database_url).set(database=name).render_as_string(hide_password=False)
    try:
        with pytest.raises(StorageError, match=f"has the encoding {encoding}, .* need UTF8") as error:
            connect(other)
        assert error.value.hint == "Make one: CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0;"
    finally:
        execute(database_url, f"drop database {name} with (force)")


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_the_encoding_of_the_environment_does_not_matter(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    with closing(connect(database_url)) as database, database.engine.connect() as connection:
        assert connection.scalar(sa.select(sa.literal("写真 🙂"))) == "写真 🙂"
