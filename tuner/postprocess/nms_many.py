"""NMS that keeps scores, at many IoU values at once: overlaps are computed once, every value is one bit of an integer.

Greedy NMS is the one solution of "a box is kept unless a kept box before it overlaps it too much". It is found by
repeating that sentence for all boxes together until nothing changes: after n rounds at least the first n boxes of each
group are settled, and in practice all after a few (Zheng et al. 2021, "Enhancing geometric factors in model learning
and inference for object detection and instance segmentation", call it cluster NMS).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from tuner.config.trial import NmsKind
from tuner.models.predictions import Detections, RawPredictions
from tuner.postprocess.pairs import blocks
from tuner.postprocess.voting import voted

KEEPING_SCORES: frozenset[NmsKind] = frozenset({"greedy", "greedy-voting", "greedy-agnostic", "diou", "none"})
"""Kinds in which boxes stay or go with their scores, so that one bit says all. Votes, too, move a box to one place
whatever the NMS IoU."""

_BOXES_PER_STEP = 256
"""Boxes of one image that are decided together; with those kept before them they are all that is looked at."""
_BOXES_PER_BLOCK = 16 * _BOXES_PER_STEP
_PAIRS_PER_BLOCK = 1 << 18  # bounds the memory for overlaps to some 50 MB


def suppress_many(
    raw: RawPredictions, nms_ious: Sequence[float], *, kind: NmsKind = "greedy", max_detections: int = 100
) -> tuple[Detections, NDArray[np.bool_]]:
    """Do what `tuner.postprocess.nms.suppress` does, for many NMS IoU values.

    Boxes are decided by descending score until each value has its `max_detections`; the rest is not looked at.

    Args:
        raw: Finite predictions of a split.
        nms_ious: L values, at most 64.
        kind: One of `KEEPING_SCORES`.
        max_detections: Detections kept for each image, over all classes, those of highest score.

    Returns:
        Predictions that some value keeps, by descending score within each image, and (L, P) bool: which of them each
        value keeps.
    """
    if len(nms_ious) > 64:
        raise ValueError(f"{len(nms_ious)} NMS IoU values, but only 64 fit into an integer")
    order = np.lexsort((-raw.scores, raw.image_index))
    stated = None if raw.stated is None else raw.stated[order]
    ordered = Detections(raw.boxes[order], raw.scores[order], raw.labels[order], raw.offsets, stated)
    image = ordered.image_index
    rank = np.arange(len(order)) - raw.offsets[image]
    ascending = np.sort(np.asarray(nms_ious, dtype=np.float64))
    bits = np.where(rank < max_detections, np.uint64((1 << len(nms_ious)) - 1), np.uint64(0))
    classes = 1 if kind == "greedy-agnostic" else int(raw.labels.max(initial=0)) + 1
    for images in blocks(np.minimum(np.diff(raw.offsets), _BOXES_PER_STEP), _BOXES_PER_BLOCK) if kind != "none" else ():
        part = slice(raw.offsets[images.start], raw.offsets[images.stop])
        bits[part] = _survivors(
            ordered.boxes[part].astype(np.float64),
            image[part] - images.start,
            ordered.labels[part] % classes,
            rank[part],
            ascending,
            max_detections,
            by_distance=kind == "diou",
        )
    some = bits != 0
    bits = bits[some]
    kept = np.array([(bits & np.uint64(1 << int(place))) != 0 for place in np.searchsorted(ascending, nms_ious)])
    found = ordered.subset(some)
    if kind == "greedy-voting":
        found = replace(found, boxes=_voted(ordered, some), stated=None)
    return found, kept


def _voted(every: Detections, some: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(Q, 4) the boxes of some of the predictions, moved by the votes of all."""
    boxes, scores, labels, offsets = map(torch.from_numpy, (every.boxes, every.scores, every.labels, every.offsets))
    result: NDArray[np.float32] = (
        voted(boxes, scores, labels, offsets, torch.from_numpy(some).nonzero()[:, 0]).float().numpy()
    )
    return result


def _survivors(
    boxes: NDArray[np.float64],
    image: NDArray[np.int64],
    labels: NDArray[np.int64],
    rank: NDArray[np.int64],
    nms_ious: NDArray[np.float64],
    most: int,
    *,
    by_distance: bool,
) -> NDArray[np.uint64]:
    """Bit l of each box: whether value l of the ascending `nms_ious` keeps it.

    Args:
        boxes: (P, 4) xyxy of some images, by descending score within each.
        image: (P,) ascending, from 0.
        labels: (P,), only boxes of one label suppress one another.
        rank: (P,) place within the image.
        nms_ious: (L,) ascending.
        most: Boxes that each value keeps of an image.
        by_distance: See `_close_pairs`.
    """
    alive = np.zeros(len(boxes), dtype=np.uint64)
    groups = image * (int(labels.max(initial=0)) + 1) + labels
    taken = np.zeros((len(nms_ious), int(image[-1]) + 1 if len(image) else 0), dtype=np.int64)
    kept = np.empty(0, dtype=np.int64)
    for start in range(0, int(rank.max(initial=-1)) + 1, _BOXES_PER_STEP):
        wanting = (np.uint64(1) << np.arange(len(nms_ious), dtype=np.uint64)) @ (taken < most).astype(np.uint64)
        rows = np.flatnonzero((rank >= start) & (rank < start + _BOXES_PER_STEP) & (wanting[image] != 0))
        kept = kept[wanting[image[kept]] != 0]
        alive[rows] = wanting[image[rows]]
        looked_at = np.sort(np.concatenate([kept, rows]))
        fresh = rank[looked_at] >= start
        before, after, overlaps = _close_pairs(boxes[looked_at], groups[looked_at], fresh, nms_ious, by_distance)
        _settle(alive, looked_at[before], looked_at[after], overlaps, wanting[image])
        first = np.searchsorted(rows, np.searchsorted(image, np.arange(taken.shape[1])))  # of each image
        for value in range(len(nms_ious)):
            bit = np.uint64(1 << value)
            number = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum((alive[rows] & bit) != 0)])
            beyond = number[1:] - number[first[image[rows]]] + taken[value, image[rows]] > most
            alive[rows[beyond]] &= ~bit
            taken[value] += np.bincount(image[rows[(alive[rows] & bit) != 0]], minlength=taken.shape[1])
        kept = np.concatenate([kept, rows[alive[rows] != 0]])
    return alive


def _settle(
    alive: NDArray[np.uint64],
    before: NDArray[np.int64],
    after: NDArray[np.int64],
    overlaps: NDArray[np.uint64],
    wanting: NDArray[np.uint64],
) -> None:
    """Take from each box the values at which a kept box before it overlaps it, until nothing changes; in place."""
    by_after = np.argsort(after, kind="stable")
    before, after, overlaps = before[by_after], after[by_after], overlaps[by_after]
    loser, starts = np.unique(after, return_index=True)
    while len(loser):
        left = wanting[loser] & ~np.bitwise_or.reduceat(alive[before] & overlaps, starts)
        if (left == alive[loser]).all():
            return
        alive[loser] = left


def _close_pairs(
    boxes: NDArray[np.float64],
    groups: NDArray[np.int64],
    fresh: NDArray[np.bool_],
    nms_ious: NDArray[np.float64],
    by_distance: bool,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint64]]:
    """Pairs (first, second) of one group of which one is fresh, with a bit for each value at which they are too close.

    By distance, the measure is IoU less the distance of the centres (`tuner.postprocess.nms_kinds.diou`), which is
    never above IoU, and its threshold itself suppresses; by IoU, only what is above the threshold does.

    With boxes sorted by their left side, a box can only have IoU x with those that begin before all but an x-th of its
    width is over.
    """
    masks = np.array([(1 << n) - 1 for n in range(len(nms_ious) + 1)], dtype=np.uint64)
    found = [(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), masks[:0])]
    if len(boxes):
        left, right = boxes[:, 0] - boxes[:, 0].min(), boxes[:, 2] - boxes[:, 0].min()
        base = groups * (max(left.max(), right.max()) + 2.0)
        order = np.argsort(base + left, kind="stable")
        reach = base + np.maximum(right - nms_ious[0] * (right - left), left) + 1e-3  # slack for rounding
        ends = np.searchsorted((base + left)[order], reach[order], side="right")
        # Behind all boxes in their order, the fresh ones alone, which are what kept ones are paired with.
        others = np.concatenate([order, order[fresh[order]]])
        number = np.cumsum(fresh[order])
        starts = np.where(fresh[order], np.arange(len(order)) + 1, len(order) + number)
        counts = np.where(fresh[order], ends, len(order) + number[ends - 1]) - starts
        for block in blocks(counts, _PAIRS_PER_BLOCK):
            size = counts[block]
            one = np.repeat(order[block], size)
            place = np.arange(len(one)) - np.repeat(np.cumsum(size) - size, size)
            other = others[np.repeat(starts[block], size) + place]
            iou = _iou(boxes[one].T, boxes[other].T)
            if by_distance:
                iou -= _distance(boxes[one].T, boxes[other].T)
            passed = np.searchsorted(nms_ious, iou, side="right" if by_distance else "left")
            close = passed > 0
            one, other = one[close], other[close]
            found.append((np.minimum(one, other), np.maximum(one, other), masks[passed[close]]))
    before, after, overlaps = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return before, after, overlaps


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
