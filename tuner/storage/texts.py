"""Texts that others wrote, such as the messages of exceptions, as every database takes them."""

from __future__ import annotations

LONGEST = 5000
"""Characters of a stored text: Optuna's attributes hold 65,535 bytes on MySQL, and there one character takes up to 12,
as JSON writes it."""


def storable(text: str) -> str:
    r"""The text without what a database refuses: lone surrogates and NUL are escaped, a long one lacks its middle.

    Of a text that is storable nothing changes.
    """
    text = text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", r"\x00")
    half = LONGEST // 2
    return text if len(text) <= LONGEST else f"{text[: half - 1]}…{text[-half:]}"
