"""Texts of others, made such that every database takes them."""

from __future__ import annotations

import pytest

from tuner.storage.texts import LONGEST, storable


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
