"""Images to judge by that are nearly those to train on, as frames of one video are."""

from __future__ import annotations

import re
from bisect import bisect
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tuner.data.images import thumbnail
from tuner.data.split import Split

_LOOKED_AT = 16
_SIDE = 32
_ALIKE = 0.97
"""Correlation of the grey values of two images from which they are nearly the same. Neighbours by name have below 0.43
among 99 of 100 photographs of BCCD, and below 0.58 among all of raccoons."""
_SHARE = 0.25


def alike_notes(train: Split, val: Split) -> list[str]:
    """A sentence where many images of val are nearly the same as an image of train that is beside them by name.

    Raises:
        DataError: One of these images cannot be read; names it.
    """
    paths = sorted(train.paths, key=_order)
    places = [_order(path) for path in paths]
    looked_at = val.paths[:: max(1, -(-len(val) // _LOOKED_AT))]
    pairs = []
    for path in looked_at:
        here = bisect(places, _order(path))
        seen = _pattern(path)
        for other in paths[max(0, here - 1) : here + 1]:
            if other != path and (seen * _pattern(other)).sum() > _ALIKE:
                pairs.append((path, other))
                break
    if len(pairs) < _SHARE * len(looked_at):
        return []
    one, other = pairs[0]
    return [
        f"{len(pairs)} of {len(looked_at)} images of val that were looked at are nearly the same as one of train, such "
        f"as {one} and {other}: if they are frames of one video, val says little of others; put all frames of a video "
        "into one split, with a file of annotations for each (--annotations, --val)"
    ]


def _order(path: Path) -> list[str | int]:
    """Sorts names, in whatever folders, with the numbers in them as numbers: frame_9.jpg before frame_10.jpg."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"([0-9]+)", path.name)]


def _pattern(path: Path) -> NDArray[np.float64]:
    """Grey values of an image, (_SIDE, _SIDE), centred and of length 1; all 0 where they are equal."""
    grey = thumbnail(path, _SIDE).astype(np.float64)
    centred: NDArray[np.float64] = grey - grey.mean()
    return centred / max(1e-9, float(np.linalg.norm(centred)))
