"""Overlapping tiles of large images, so that small objects are not scaled away. Geometry only."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuner.config.errors import ConfigError


@dataclass(frozen=True)
class Tiling:
    """How images are cut.

    Attributes:
        side: Width and height of a tile in original pixels.
        overlap: Least part of a tile that it shares with the next one; an object that is smaller than this part lies
            whole in at least one tile.
    """

    side: int
    overlap: float = 0.2

    def __post_init__(self) -> None:
        if self.side < 32:
            raise ConfigError(f"the tile size is {self.side} pixels", hint="Choose 32 or more, such as 640.")
        if not 0.0 <= self.overlap < 1.0:
            raise ConfigError(f"the overlap of tiles is {self.overlap:g}", hint="Choose 0 or more, but less than 1.")


def tile_starts(length: int, tiling: Tiling) -> NDArray[np.int64]:
    """Where tiles begin along one side of an image: as few as cover it, evenly spread, the last ending with it.

    Args:
        length: Of the side, in pixels, at least 1.
        tiling: How to cut.
    """
    rest = length - tiling.side
    if rest <= 0:
        return np.zeros(1, dtype=np.int64)
    step = max(1, tiling.side - math.ceil(tiling.side * tiling.overlap))
    number = math.ceil(rest / step) + 1
    return np.arange(number, dtype=np.int64) * rest // (number - 1)


def tiles_of(width: int, height: int, tiling: Tiling) -> NDArray[np.int64]:
    """Windows on an image: the whole image, and its tiles where it does not fit into one.

    The whole image is among them for objects that are larger than a tile.

    Returns:
        (T, 4) int64, xyxy in whole pixels, first the whole image, then row by row.
    """
    whole = [[0, 0, width, height]]
    if width <= tiling.side and height <= tiling.side:
        return np.array(whole, dtype=np.int64)
    tiles = [
        [left, top, min(left + tiling.side, width), min(top + tiling.side, height)]
        for top in tile_starts(height, tiling).tolist()
        for left in tile_starts(width, tiling).tolist()
    ]
    return np.array(whole + tiles, dtype=np.int64)
