"""Classes that a left-right flip turns into each other."""

from __future__ import annotations

import re
from collections.abc import Sequence

_SIDES = ("left", "right")


def mirrored_classes(classes: Sequence[str]) -> tuple[str, str] | None:
    """The first two classes whose names differ in the words left and right alone, as turn_left and TurnRight do."""
    seen: dict[tuple[str, ...], str] = {}
    for name in classes:
        words = _words(name)
        other = seen.setdefault(tuple("left|right" if word in _SIDES else word for word in words), name)
        if _words(other) != words:
            return other, name
    return None


def _words(name: str) -> tuple[str, ...]:
    """Words and numbers in lower case, parted by other characters and by capitals within a word."""
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return tuple(word.lower() for word in re.findall(r"[^\W\d_]+|\d+", parted))
