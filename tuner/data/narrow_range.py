"""16-bit images that use a small part of their range, and so are nearly black to a detector."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tuner.data.images import largest_of_16_bit

_LOOKED_AT = 16
_FULL = 65535
_LOW = _FULL // 4


def narrow_range_notes(paths: Sequence[Path]) -> list[str]:
    """A sentence where the 16-bit images among a few of these keep far below their largest value.

    12 bits of a camera or microscope, written as 16, are an example: full white is 16 of 255 then.

    Raises:
        DataError: One of these cannot be read; names it.
    """
    largest: dict[Path, int] = {}
    for path in paths[:: max(1, -(-len(paths) // _LOOKED_AT))]:
        value = largest_of_16_bit(path)
        if value is not None:
            largest[path] = value
    brightest = max(largest, key=lambda path: largest[path], default=None)
    if brightest is None or largest[brightest] > _LOW:
        return []
    value = largest[brightest]
    return [
        f"16-bit images are taken to use all values up to {_FULL}, but the largest value in {len(largest)} of them is "
        f"{value}, in {brightest}: they are read as 0 to {round(value / 257)} of 255. Multiply the values of all "
        f"images by the same factor, up to {_FULL // max(1, value)}, and write them again"
    ]
