"""Database URLs: what is meant by them, and how they are shown."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from tuner.config.errors import ConfigError, StorageError
from tuner.config.paths import expanded

VARIABLE = "TUNER_STORAGE"
"""Environment variable that names the database when nothing else does."""
DEFAULT_URL = "sqlite:///tuner-studies/tuner.db"
"""The database when nothing is said: SQLite below the current folder."""
EXTRAS = {"postgresql": "postgres", "mysql": "mysql"}
"""The extra of this package that installs the driver of a backend."""

_DRIVERS = {
    "sqlite": "sqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
}
_SECRET = re.compile(r"password|passwd|secret|token|^pwd$", re.IGNORECASE)
_PASSWORD = re.compile(r"(://[^:/@]*):.*@")
_ESCAPES = "In a password write @ as %40, / as %2F, : as %3A and ? as %3F."
_MASK = "***"
"""What stands for a password where a URL is shown."""
_FORMS = (
    "Write it as sqlite:///folder/file.db, postgresql://user:password@host/name or mysql://user:password@host/name."
)


def resolve(url: str | None) -> URL:
    """The database that is meant, with the driver this package uses and SQLite's path made absolute.

    Args:
        url: A URL, or None for `TUNER_STORAGE` and, where that is not set, `DEFAULT_URL`.

    Raises:
        StorageError: The text is not a URL of a database that is supported, or one that was copied with its mask.
    """
    text = url or os.environ.get(VARIABLE) or DEFAULT_URL
    parsed = _parsed(text)
    if parsed is None:
        hint = _ESCAPES if text.count("@") > 1 else _FORMS
        raise StorageError(f"{masked(text)!r} is not a database URL", hint=hint)
    if _MASK in (parsed.password, *(value for key, value in parsed.query.items() if _SECRET.search(key))):
        raise StorageError(
            f"{masked(parsed)} is a masked URL: tuner shows {_MASK} in place of a password",
            hint=f"Put the password in, or set {VARIABLE} to the whole URL and leave --storage out, which keeps the "
            "password out of the shell's history.",
        )
    backend = parsed.drivername.partition("+")[0]
    if backend not in _DRIVERS:
        raise StorageError(f"{backend!r} is not a database that can hold studies", hint=_FORMS)
    parsed = parsed.set(drivername=_DRIVERS[backend])
    if backend != "sqlite":
        if not parsed.database:
            raise StorageError(f"{masked(text)} names no database", hint=_FORMS)
        return parsed
    if not parsed.database or parsed.database == ":memory:" or parsed.database.startswith("file:"):
        raise StorageError(
            f"{masked(parsed)} is not a file, so no other process could see the study",
            hint="Name a file: sqlite:///folder/file.db.",
        )
    try:
        file = expanded(parsed.database, f"{masked(parsed)}: ")
    except ConfigError as error:
        raise StorageError(error.message, hint=error.hint) from None
    return parsed.set(database=str(file.absolute()))


def masked(url: str | URL) -> str:
    """The URL as it may be printed, logged and stored: without its password.

    Of a text that is no URL, all up to its last @ is taken for the password, and what follows a host is left out.
    """
    parsed = _parsed(url) if isinstance(url, str) else url
    if parsed is None:
        return re.split("[?&]", _PASSWORD.sub(rf"\1:{_MASK}@", str(url)))[0]
    hidden = {key: _MASK if _SECRET.search(key) else value for key, value in parsed.query.items()}
    return parsed.set(query=hidden).render_as_string(hide_password=True).replace("=%2A%2A%2A", "=***")


def storage_option(url: URL) -> str:
    """The option that names a database in a command, with a space before; empty where it is the one meant anyway."""
    return "" if url == resolve(None) else f" --storage {shlex.quote(masked(url))}"


def _parsed(text: str) -> URL | None:
    """The URL that a text is; None where it is none, or holds more @ than belong there, so that it may be torn."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        return None
    beyond = text.count("@") > 1 and "@" not in "".join(map(str, url.query.values()))
    torn = beyond or "@" in f"{url.host}{url.database}{[*url.query]}"
    return url if url.drivername.startswith("sqlite") or not torn else None


def sqlite_file(url: URL) -> Path | None:
    """The file of an SQLite database; None for a server."""
    return Path(url.database) if url.drivername == "sqlite" and url.database else None
