"""NMS that keeps scores, at many IoU values at once: overlaps are computed once, every value is one bit of an integer.

Greedy NMS is the one solution of "a box is kept unless a kept box before it overlaps it too much". It is found by
repeating that sentence for all boxes together until nothing changes: after n rounds at least the first n boxes of each
group are settled, and in practice all after a few (Zheng et al. 2021, "Enhancing geometric factors in model learning
and inference for object detection and instance segmentation", call it cluster NMS).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tuner.config.trial import NmsKind
from tuner.models.predictions import Detections, RawPredictions

KEEPING_SCORES: frozenset[NmsKind] = frozenset({"greedy", "greedy-agnostic", "diou", "none"})
"""Kinds in which boxes stay or go as they are, so that one bit says all."""

_BOXES_PER_BLOCK = 4096  # bounds the memory for pairs: some 50 MB, more where a single image holds more boxes


def suppress_many(
    raw: RawPredictions, nms_ious: Sequence[float], *, kind: NmsKind = "greedy", max_detections: int = 100
) -> tuple[Detections, NDArray[np.bool_]]:
    """Do what `tuner.postprocess.nms.suppress` does, for many NMS IoU values.

    Args:
        raw: Finite predictions of a split.
        nms_ious: L values, at most 64.
        kind: One of `KEEPING_SCORES`.
        max_detections: Detections kept for each image, over all classes, those of highest score.

    Returns:
        All raw predictions by descending score within each image, and (L, P) bool: which of them each value keeps.
    """
    if len(nms_ious) > 64:
        raise ValueError(f"{len(nms_ious)} NMS IoU values, but only 64 fit into an integer")
    order = np.lexsort((-raw.scores, raw.image_index))
    ordered = Detections(raw.boxes[order], raw.scores[order], raw.labels[order], raw.offsets)
    groups = ordered.image_index
    if kind != "greedy-agnostic":
        groups = groups * (int(raw.labels.max(initial=0)) + 1) + ordered.labels
    boxes = ordered.boxes.astype(np.float64)
    ascending = np.sort(np.asarray(nms_ious, dtype=np.float64))
    bits = np.full(len(order), np.uint64((1 << len(nms_ious)) - 1))
    for block in _blocks(raw.offsets) if kind != "none" else ():
        bits[block] = _survivors(boxes[block], groups[block], ascending, by_distance=kind == "diou")
    kept = np.empty((len(nms_ious), len(order)), dtype=np.bool_)
    for row, place in enumerate(np.searchsorted(ascending, nms_ious)):
        kept[row] = bits & np.uint64(1 << int(place))
        number = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(kept[row])])
        kept[row] &= number[1:] - number[raw.offsets[ordered.image_index]] <= max_detections
    return ordered, kept


def _blocks(offsets: NDArray[np.int64]) -> Iterator[slice]:
    """Slices of whole images of about `_BOXES_PER_BLOCK` boxes, at least one image."""
    image = 0
    while image < len(offsets) - 1:
        fitting = int(np.searchsorted(offsets, offsets[image] + _BOXES_PER_BLOCK, side="right")) - 1
        following = max(image + 1, fitting)
        yield slice(int(offsets[image]), int(offsets[following]))
        image = following


def _survivors(
    boxes: NDArray[np.float64], groups: NDArray[np.int64], nms_ious: NDArray[np.float64], *, by_distance: bool
) -> NDArray[np.uint64]:
    """Bit l of each box: whether value l of the ascending `nms_ious` keeps it. Boxes stand in order of priority.

    By distance, the measure is IoU less the distance of the centres (`tuner.postprocess.nms_kinds.diou`), which is
    never above IoU, and its threshold itself suppresses; by IoU, only what is above the threshold does.
    """
    every = np.uint64((1 << len(nms_ious)) - 1)
    alive = np.full(len(boxes), every)
    before, after = _neighbours(boxes, groups, float(nms_ious[0]))
    iou = _iou(boxes[before].T, boxes[after].T)
    if by_distance:
        iou -= _distance(boxes[before].T, boxes[after].T)
    close = iou >= nms_ious[0] if by_distance else iou > nms_ious[0]
    before, after, iou = before[close], after[close], iou[close]
    if not len(after):
        return alive
    by_after = np.argsort(after, kind="stable")
    before, after, iou = before[by_after], after[by_after], iou[by_after]
    masks = np.array([(1 << n) - 1 for n in range(len(nms_ious) + 1)], dtype=np.uint64)
    overlaps = masks[np.searchsorted(nms_ious, iou, side="right" if by_distance else "left")]
    loser, starts = np.unique(after, return_index=True)
    while True:
        left = every & ~np.bitwise_or.reduceat(alive[before] & overlaps, starts)
        if (left == alive[loser]).all():
            return alive
        alive[loser] = left


def _neighbours(
    boxes: NDArray[np.float64], groups: NDArray[np.int64], least: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs (first, second) of one group that may overlap by more than `least`, by their horizontal extent.

    With boxes sorted by their left side, a box can only have that IoU with those that begin before all but a
    `least`-th of its width is over.
    """
    if not len(boxes):
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    left, right = boxes[:, 0] - boxes[:, 0].min(), boxes[:, 2] - boxes[:, 0].min()
    step = max(left.max(), right.max()) + 2.0
    base = (groups - groups.min()) * step
    order = np.argsort(base + left, kind="stable")
    reach = base + np.maximum(right - least * (right - left), left) + 1e-3  # slack for rounding
    counts = np.searchsorted((base + left)[order], reach[order], side="right") - np.arange(1, len(boxes) + 1)
    one = np.repeat(np.arange(len(boxes)), counts)
    other = one + 1 + np.arange(len(one)) - np.repeat(np.cumsum(counts) - counts, counts)
    one, other = order[one], order[other]
    return np.minimum(one, other), np.maximum(one, other)


def _iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU of (4, P) xyxy boxes pair by pair; 0 where they only touch."""
    width = np.minimum(a[2], b[2]) - np.maximum(a[0], b[0])
    height = np.minimum(a[3], b[3]) - np.maximum(a[1], b[1])
    overlap = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - overlap
    iou = np.zeros(len(overlap))
    np.divide(overlap, union, out=iou, where=(width > 0) & (height > 0))
    return iou


def _distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared distance of the centres over the squared diagonal around both, of (4, P) xyxy boxes pair by pair."""
    width = np.maximum(a[2], b[2]) - np.minimum(a[0], b[0])
    height = np.maximum(a[3], b[3]) - np.minimum(a[1], b[1])
    dx, dy = ((a[0] + a[2]) - (b[0] + b[2])) / 2, ((a[1] + a[3]) - (b[1] + b[3])) / 2
    result: NDArray[np.float64] = (dx * dx + dy * dy) / np.maximum(width * width + height * height, 1e-300)
    return result
