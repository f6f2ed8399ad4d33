from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import URL

from tuner.config.errors import StorageError
from tuner.storage.folders import studies_folder
from tuner.storage.urls import masked, resolve, sqlite_file, storage_option


@pytest.mark.parametrize(
    ("text", "driver"),
    [
        ("postgresql://u@h/d", "postgresql+psycopg"),
        ("postgres://u@h/d", "postgresql+psycopg"),
        ("postgresql+psycopg2://u@h/d", "postgresql+psycopg"),
        ("mysql://u@h/d", "mysql+pymysql"),
        ("mariadb://u@h/d", "mysql+pymysql"),
        ("sqlite:///x.db", "sqlite"),
    ],
)
def test_each_database_gets_the_driver_that_is_supported(text: str, driver: str) -> None:
    assert resolve(text).drivername == driver


def test_default_and_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TUNER_STORAGE", raising=False)
    assert sqlite_file(resolve(None)) == tmp_path / "tuner-studies" / "tuner.db"
    assert studies_folder(resolve(None)) == tmp_path / "tuner-studies"
    monkeypatch.setenv("TUNER_STORAGE", "sqlite:///other/a.db")
    assert studies_folder(resolve(None)) == tmp_path / "other"
    assert studies_folder(resolve("mysql://h/d")) == tmp_path / "tuner-studies"


@pytest.mark.parametrize(
    "text",
    ["studies.db", "oracle://u:secret@h/d", "sqlite://", "sqlite:///:memory:", "mysql://u:secret@h", "://"],
)
def test_what_is_not_a_usable_url_is_refused_without_its_password(text: str) -> None:
    with pytest.raises(StorageError) as error:
        resolve(text)
    assert error.value.hint
    assert "secret" not in str(error.value)


def test_a_masked_url_is_refused_as_such() -> None:
    """Commands that are proposed hold one, and a server would only say "access denied"."""
    for url in ("mysql://user:secret@host/name", "postgresql://host/name?user=me&password=secret"):
        command = storage_option(resolve(url))
        with pytest.raises(StorageError, match="is a masked URL") as error:
            resolve(shlex.split(command)[1])
        assert "Put the password in, or set TUNER_STORAGE" in error.value.hint
        assert "secret" not in str(error.value)


def test_the_home_of_nobody_is_named() -> None:
    with pytest.raises(StorageError, match=r"~nobody-here/a\.db: there is no home folder for ~nobody-here"):
        resolve("sqlite:///~nobody-here/a.db")
    assert sqlite_file(resolve("sqlite:///~/a.db")) == Path.home() / "a.db"


@given(
    password=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(lambda p: p != "***"),
    key=st.sampled_from(["password", "sslpassword", "passwd", "client_secret"]),
)
def test_a_password_is_never_shown(password: str, key: str) -> None:
    url = URL.create("postgresql", "user", password, "host", 5432, "name", query={key: password, "sslmode": "require"})
    for shown in (masked(url), masked(url.render_as_string(hide_password=False))):
        base, _, query = shown.partition("?")
        assert base == "postgresql://user:***@host:5432/name"
        assert set(query.split("&")) == {f"{key}=***", "sslmode=require"}


def test_a_password_in_a_broken_url_is_hidden() -> None:
    assert masked("postgresql://user:p@ss:w0rd@host:port/name") == "postgresql://user:***@host:port/name"


@pytest.mark.parametrize("secret", ["s3c@r3t/Pw", "s3c@r3t:Pw", "s3c@r3t", "@", "s3c@?r3t", "s3c/r@3t?Pw"])
def test_a_password_with_a_plain_at_sign_is_refused_and_hidden(secret: str) -> None:
    """Its end would be taken for the host and the name of the database, and be shown."""
    for query in ("", "?sslmode=require", "?sslrootcert=/a%40b"):
        with pytest.raises(StorageError) as error:
            resolve(f"postgres://user:{secret}@127.0.0.1/db{query}")
        assert error.value.message == "'postgres://user:***@127.0.0.1/db' is not a database URL"
        assert "write @ as %40, / as %2F" in error.value.hint


def test_an_at_sign_in_a_query_or_a_file_is_none_of_a_password() -> None:
    assert resolve("postgresql://user:secret@host/db?sslrootcert=/a@b").query == {"sslrootcert": "/a@b"}
    assert resolve("sqlite:////home/a@b/c@d.db").database == "/home/a@b/c@d.db"
