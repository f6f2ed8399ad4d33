"""Pairs of detections and ground truth as flat arrays: their IoU, and their division into blocks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


def rank_in_run(values: NDArray[np.int32] | NDArray[np.int64]) -> NDArray[np.int64]:
    """0, 1, 2, … within each run of equal values."""
    place = np.arange(len(values), dtype=np.int64)
    begins = np.flatnonzero(np.diff(values, prepend=-1))
    return place - np.repeat(begins, np.diff(begins, append=len(values)))


def blocks(counts: NDArray[np.int64], most: int) -> Iterator[slice]:
    """Slices of items whose counts are `most` in all, at the most (but at least one item each)."""
    ends = np.cumsum(counts)
    start = 0
    while start < len(counts):
        reached = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, reached + most, side="right")))
        yield slice(start, stop)
        start = stop


def pair_iou(
    detections: NDArray[np.float64], truth: NDArray[np.float64], crowd: NDArray[np.bool_] | bool
) -> NDArray[np.float64]:
    """IoU of boxes pair by pair, in the order of operations of pycocotools' `bbIou`.

    Args:
        detections: (4, …) xywh.
        truth: (4, …) xywh, of a shape that broadcasts with the detections'.
        crowd: Whether a truth is a crowd, whose IoU is the intersection over the area of the detection.
    """
    dx, dy, dw, dh = detections
    tx, ty, tw, th = truth
    width = np.minimum(dw + dx, tw + tx) - np.maximum(dx, tx)
    height = np.minimum(dh + dy, th + ty) - np.maximum(dy, ty)
    overlap = width * height
    own = dw * dh
    union = np.where(crowd, own, own + tw * th - overlap)
    iou = np.zeros(overlap.shape)
    np.divide(overlap, union, out=iou, where=(width > 0) & (height > 0))
    return iou
