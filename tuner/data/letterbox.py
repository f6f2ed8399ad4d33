"""Letterboxing: images of any size scaled, with their aspect ratio kept, into one canvas."""

from __future__ import annotations

from typing import NamedTuple


class Canvas(NamedTuple):
    """Size of the letterboxed image in pixels; both are multiples of the largest stride."""

    width: int
    height: int
