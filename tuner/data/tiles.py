"""Overlapping tiles of large images, so that small objects are not scaled away. Geometry only."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tuner.config.trial import Tiles


def tile_starts(length: int, tiles: Tiles) -> NDArray[np.int64]:
    """Where tiles begin along one side of an image: as few as cover it, evenly spread, the last ending with it.

    Args:
        length: Of the side, in pixels, at least 1.
        tiles: How to cut, with a size.
    """
    rest = length - tiles.size
    if rest <= 0:
        return np.zeros(1, dtype=np.int64)
    step = max(1, tiles.size - math.ceil(tiles.size * tiles.overlap))
    number = math.ceil(rest / step) + 1
    return np.arange(number, dtype=np.int64) * rest // (number - 1)


def windows_of(width: int, height: int, tiles: Tiles) -> NDArray[np.int64]:
    """Windows on an image: the whole image, and its tiles where there are such and it does not fit into one.

    The whole image is among them for objects that are larger than a tile.

    Returns:
        (T, 4) int64, xyxy in whole pixels, first the whole image, then row by row.
    """
    whole = [[0, 0, width, height]]
    if not tiles.size or (width <= tiles.size and height <= tiles.size):
        return np.array(whole, dtype=np.int64)
    cut = [
        [left, top, min(left + tiles.size, width), min(top + tiles.size, height)]
        for top in tile_starts(height, tiles).tolist()
        for left in tile_starts(width, tiles).tolist()
    ]
    return np.array(whole + cut, dtype=np.int64)
