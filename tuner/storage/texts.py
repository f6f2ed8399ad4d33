"""Texts that others wrote, such as the messages of exceptions, as every database takes them."""

from __future__ import annotations

from sqlalchemy import Engine, text

from tuner.config.errors import StorageError
from tuner.storage.urls import masked

LONGEST = 5000
"""Characters of a stored text: Optuna's attributes hold 65,535 bytes on MySQL, and there one character takes up to 12,
as JSON writes it."""


_ENCODINGS = {
    "postgresql": (
        "show server_encoding",
        "UTF8",
        "Make one: CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0",
    ),
    "mysql": ("select @@character_set_database", "utf8mb4", "Change it: ALTER DATABASE `{name}` CHARACTER SET utf8mb4"),
}
"""Of servers: how to ask for the encoding of a database, the one that holds every character, and how to get it."""


def require_unicode(engine: Engine) -> None:
    """Check, before tables are made, that a server's database takes every character.

    Raises:
        StorageError: It does not; says what to do.
    """
    if engine.dialect.name not in _ENCODINGS:
        return
    question, wanted, remedy = _ENCODINGS[engine.dialect.name]
    with engine.connect() as connection:
        found = connection.scalar(text(question))
    if found != wanted:
        raise StorageError(
            f"the database {masked(engine.url)} has the encoding {found}, in which not every character can be stored: "
            f"names of files and messages need {wanted}",
            hint=remedy.format(name=engine.url.database) + ";",
        )


def storable(text: str) -> str:
    r"""The text without what a database refuses: lone surrogates and NUL are escaped, a long one lacks its middle.

    Of a text that is storable nothing changes.
    """
    text = text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", r"\x00")
    half = LONGEST // 2
    return text if len(text) <= LONGEST else f"{text[: half - 1]}…{text[-half:]}"
