"""Greedy matching of detections to ground truth by COCO's rule, for many IoU thresholds and size classes at once.

The rule (pycocotools, `COCOeval.evaluateImg`): within one image and class, by descending score, a detection takes
the free box of highest IoU at or above the threshold; boxes that do not count (crowds, sizes out of range) are
taken only when no counting box can be had, and what takes them is neither right nor wrong. A crowd can be taken any
number of times, and its IoU is the intersection over the area of the detection.

Only pairs at or above the lowest threshold can match, and they are few. numpy finds them; the inherently sequential
part is one short Python loop over them, in which every integer carries one bit for each combination of threshold and
size class, so that the loop decides all of them together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tuner.data.split import Split
from tuner.models.predictions import Detections
from tuner.postprocess.pairs import blocks, pair_iou, rank_in_run

AreaRange = tuple[float, float]

ALL_AREAS: AreaRange = (0.0, 1e10)
MATCH_IOU = 0.5
"""IoU with the ground truth at which a detection is right, wherever there is one IoU and not COCO's ten."""
_PAIRS_PER_BLOCK = 1 << 20  # bounds the memory for IoUs to about 200 MB


class TruthIndex:
    """Ground truth of one split, arranged once for matching any number of detections.

    Boxes are sorted by class, then by ascending image id (COCO's order, which decides ties in score),
    then as in the file.

    Attributes:
        images: N.
        classes: K.
        labels: (M,) int64, ascending.
        image: (M,) int64, index of the image in the split.
        areas: (M,) float64, COCO's `area`.
        crowd: (M,) bool.
        positives: (N, K) int32, number of boxes to be found in each image of each class.
    """

    def __init__(self, split: Split) -> None:
        self.images = len(split)
        self.classes = len(split.classes)
        self._image_rank = np.empty(self.images, dtype=np.int64)
        self._image_rank[np.argsort(split.image_ids, kind="stable")] = np.arange(self.images)
        image = split.image_index
        key = self._key(image, split.labels)
        order = np.argsort(key, kind="stable")
        self.image = image[order]
        self.labels = split.labels[order]
        self.areas = split.areas[order]
        self.crowd = split.crowd[order]
        self._boxes = split.boxes[order].T.copy()
        self.positives = np.zeros((self.images, self.classes), dtype=np.int32)
        counting = self.counting()
        np.add.at(self.positives, (self.image[counting], self.labels[counting]), 1)
        self._keys, self._starts, self._counts = np.unique(key[order], return_index=True, return_counts=True)

    def counting(self, area: AreaRange = ALL_AREAS) -> NDArray[np.bool_]:
        """(M,) bool: the boxes that are to be found in this size class (neither crowd nor out of range)."""
        return ~self.crowd & within(self.areas, area)

    def match(
        self,
        detections: Detections,
        thresholds: Sequence[float],
        areas: Sequence[AreaRange] = (ALL_AREAS,),
        max_detections: int | None = None,
    ) -> Matches:
        """Match all detections of the split.

        Args:
            detections: In pixels of the original image; taken as `xywh` says, in float64.
            thresholds: T IoU thresholds, ascending, at most 1 - 1e-10.
            areas: A size classes; T * A is at most 64.
            max_detections: Detections kept for each image and class, those of highest score; None keeps all.

        Raises:
            DataError: The detections are not of this split or not finite.
        """
        matches, boxes, key = self._arranged(detections, max_detections)
        pairs = self._pairs(key, boxes, thresholds[0])
        taken, ignored = self._assign(len(key), pairs, *self._by_threshold(pairs, thresholds, areas))
        return replace(matches, taken=taken, ignored=ignored)

    def match_sets(self, detections: Detections, kept: NDArray[np.bool_], threshold: float) -> Matches:
        """Match several subsets of the detections of the split at one IoU threshold.

        Args:
            detections: As in `match`.
            kept: (L, P) bool, L subsets, at most 64.
            threshold: IoU threshold.

        Returns:
            Matches in which bit l belongs to subset l; to be read only where the subset holds the detection.

        Raises:
            DataError: The detections are not of this split or not finite.
        """
        if len(kept) > 64:
            raise ValueError(f"{len(kept)} subsets do not fit into 64 bits")
        matches, boxes, key = self._arranged(detections)
        member = np.zeros(len(key), dtype=np.uint64)
        for row, subset in enumerate(kept):
            member |= subset[matches.order].astype(np.uint64) << np.uint64(row)
        pairs = self._pairs(key, boxes, threshold)
        every = (1 << len(kept)) - 1
        counting = self.counting().tolist()
        free, spare = [every * c for c in counting], [every * (not c) for c in counting]
        taken, ignored = self._assign(len(key), pairs, member[pairs.detection].tolist(), free, spare)
        return replace(matches, taken=taken, ignored=ignored)

    def _arranged(
        self, detections: Detections, max_detections: int | None = None
    ) -> tuple[Matches, NDArray[np.float64], NDArray[np.int64]]:
        """Detections in the order of `Matches` with no bits set, their boxes as (4, D) xywh, and their keys."""
        detections.check(self.images, self.classes)
        scores = detections.scores.astype(np.float64)
        image = detections.image_index
        key = self._key(image, detections.labels)
        order = np.lexsort((-scores, key))
        rank = rank_in_run(key[order])
        if max_detections is not None:
            order, rank = order[rank < max_detections], rank[rank < max_detections]
        boxes = detections.xywh(order).T
        nothing = np.zeros(len(order), dtype=np.uint64)
        matches = Matches(
            order=order,
            image=image[order],
            labels=detections.labels[order],
            scores=scores[order],
            areas=boxes[2] * boxes[3],
            rank=rank,
            taken=nothing,
            ignored=nothing,
        )
        return matches, boxes, key[order]

    def _key(self, image: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
        return labels * self.images + self._image_rank[image]

    def _pairs(self, key: NDArray[np.int64], boxes: NDArray[np.float64], least: float) -> _Pairs:
        """All pairs of one image and class with IoU >= least, by detection, then descending preference."""
        group = np.searchsorted(self._keys, key)
        known = np.append(self._keys, -1)
        rows = np.flatnonzero(known[group] == key)  # detections of a class that their image holds
        starts, counts = self._starts[group[rows]], self._counts[group[rows]]
        found = [(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), np.empty(0))]
        for block in blocks(counts, _PAIRS_PER_BLOCK):
            detection = np.repeat(rows[block], counts[block])
            truth = np.repeat(starts[block], counts[block]) + rank_in_run(detection)
            iou = pair_iou(boxes[:, detection], self._boxes[:, truth], self.crowd[truth])
            close = iou >= least
            found.append((detection[close], truth[close], iou[close]))
        detection = np.concatenate([d for d, _, _ in found])
        truth = np.concatenate([t for _, t, _ in found])
        iou = np.concatenate([i for _, _, i in found])
        # Of equal IoUs the later box is taken, as in pycocotools.
        order = np.lexsort((-truth, -iou, detection))
        return _Pairs(detection[order], truth[order], iou[order])

    def _by_threshold(
        self, pairs: _Pairs, thresholds: Sequence[float], areas: Sequence[AreaRange]
    ) -> tuple[list[int], list[int], list[int]]:
        """For `_assign`: a bit for each threshold and size class."""
        width = len(thresholds)
        if width * len(areas) > 64:
            raise ValueError(f"{width} thresholds x {len(areas)} size classes do not fit into 64 bits")
        one = (1 << width) - 1
        every = sum(one << (width * a) for a in range(len(areas)))
        # Bits that a pair with IoU at or above the first n thresholds may decide.
        reach = [sum(((1 << n) - 1) << (width * a) for a in range(len(areas))) for n in range(width + 1)]
        free = np.zeros(len(self.labels), dtype=np.uint64)
        for a, area in enumerate(areas):
            free[self.counting(area)] |= np.uint64(one << (width * a))
        able = [reach[n] for n in np.searchsorted(thresholds, pairs.iou, side="right").tolist()]
        return able, free.tolist(), [every & ~bits for bits in free.tolist()]

    def _assign(
        self, count: int, pairs: _Pairs, able: list[int], free: list[int], spare: list[int]
    ) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """Run the greedy rule; see `Matches` for the two arrays of bits.

        Args:
            count: Number of detections.
            pairs: Sorted as `_pairs` does.
            able: Bits that each pair may decide; of one detection, those of the first pair include all others.
            free: Bits for which each box counts and is not taken yet; used up.
            spare: Bits for which each box does not count and is not taken yet; used up.
        """
        crowd = self.crowd.tolist()
        truth = pairs.truth.tolist()
        rows, starts = np.unique(pairs.detection, return_index=True)
        taken, ignored = [], []
        for start, stop in zip(starts.tolist(), np.append(starts, len(truth))[1:].tolist(), strict=True):
            done = 0
            for p in range(start, stop):
                bits = able[p] & free[truth[p]] & ~done
                free[truth[p]] ^= bits
                done |= bits
            wanted = able[start] & ~done  # the first pair has the highest IoU, so it reaches furthest
            aside = 0
            if wanted:
                for p in range(start, stop):
                    bits = able[p] & spare[truth[p]] & wanted & ~aside
                    if not crowd[truth[p]]:
                        spare[truth[p]] ^= bits
                    aside |= bits
            taken.append(done)
            ignored.append(aside)
        taken_bits, ignored_bits = np.zeros(count, dtype=np.uint64), np.zeros(count, dtype=np.uint64)
        taken_bits[rows] = np.array(taken, dtype=np.uint64)
        ignored_bits[rows] = np.array(ignored, dtype=np.uint64)
        return taken_bits, ignored_bits


@dataclass(frozen=True, eq=False)
class Matches:
    """What became of each detection, sorted by class, ascending image id and descending score.

    Bit `t + T * a` of `taken` and `ignored` belongs to IoU threshold t and size class a.

    Attributes:
        order: (D,) int64, where each stands in the `Detections`.
        image: (D,) int64, index of the image in the split.
        labels: (D,) int64, ascending.
        scores: (D,) float64.
        areas: (D,) float64, width * height in square pixels.
        rank: (D,) int64, place by score within its image and class, from 0.
        taken: (D,) uint64, bits that are set where it found a box that counts.
        ignored: (D,) uint64, bits that are set where it took a box that does not count.
    """

    order: NDArray[np.int64]
    image: NDArray[np.int64]
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    areas: NDArray[np.float64]
    rank: NDArray[np.int64]
    taken: NDArray[np.uint64]
    ignored: NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class _Pairs:
    detection: NDArray[np.int64]
    truth: NDArray[np.int64]
    iou: NDArray[np.float64]


def within(areas: NDArray[np.float64], area: AreaRange) -> NDArray[np.bool_]:
    """Whether areas lie in a size class, both ends included."""
    return (areas >= area[0]) & (areas <= area[1])
