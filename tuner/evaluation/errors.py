"""Why AP is lost: every wrong detection and every missed box explained, and what AP would be without them.

After Bolya et al. 2020, "TIDE: A general toolbox for identifying object detection errors" (arXiv 2008.08115): at IoU
0.5, with 0.1 as the border to background. Each kind is mended by an oracle, alone, and the gain in AP50 is what that
kind costs. The gains do not add up to 1 - AP50, since errors hide one another.

One thing the paper leaves open: a class of which no box is left to be found, because all were missed and the oracle has
mended that, has AP 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tuner.config.base import Frozen
from tuner.data.split import Split
from tuner.evaluation.coco import AREA_RANGES, interpolated
from tuner.evaluation.pairing import PairedImage, paired_images
from tuner.models.predictions import Detections
from tuner.postprocess.matching import MATCH_IOU

Kind = Literal["classification", "localisation", "both", "duplicate", "background", "missed"]
KINDS: dict[Kind, str] = {
    "classification": "right place, wrong class",
    "localisation": "right class, wrong place",
    "both": "wrong class and wrong place",
    "duplicate": "found twice",
    "background": "nothing there",
    "missed": "not found",
}
_CLASSIFICATION, _LOCALISATION, _BOTH, _DUPLICATE, _BACKGROUND, _MISSED = range(6)
RIGHT, IGNORED = -1, -2
_BACKGROUND_IOU = 0.1
SIZES = tuple(name for name in AREA_RANGES if name != "all")


@dataclass(frozen=True, eq=False)
class Explained:
    """What each detection and each box of a split came to.

    Attributes:
        split: The ground truth, M boxes.
        detections: P detections.
        kind: (P,) int64, index into `KINDS`, or RIGHT, or IGNORED (on a crowd).
        box: (P,) int64, the box that a right detection found, or that a misplaced or misnamed one is about; -1: none.
        mends: (P,) bool, detections that would find their box once mended: each box is found once, by the best score.
        missed: (M,) bool, boxes that no detection found, nor would find once mended.
        lost: (M,) bool, all boxes that no detection found.
    """

    split: Split
    detections: Detections
    kind: NDArray[np.int64]
    box: NDArray[np.int64]
    mends: NDArray[np.bool_]
    missed: NDArray[np.bool_]
    lost: NDArray[np.bool_]

    def sizes(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Size class (index into `SIZES`) of each detection, by its box where it has one, and of each box."""
        corners = self.detections.boxes.astype(np.float64)
        areas = (corners[:, 2:] - corners[:, :2]).prod(axis=1)
        about = self.box >= 0
        areas[about] = self.split.areas[self.box[about]]
        borders = [AREA_RANGES[name][1] for name in SIZES[:-1]]
        return np.digitize(areas, borders), np.digitize(self.split.areas, borders)

    def precision(
        self, mended: NDArray[np.bool_] | None = None, unasked: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float64]:
        """(K,) AP50 of each class once an oracle has mended some errors; NaN for classes without boxes.

        Args:
            mended: (P,) bool, wrong detections that are put right, or taken away where that cannot be.
            unasked: (M,) bool, boxes that need not be found.
        """
        mended = np.zeros(len(self.kind), np.bool_) if mended is None else mended & (self.kind >= 0)
        fixed = mended & self.mends
        kept = np.flatnonzero((self.kind != IGNORED) & (~mended | fixed))
        labels = self.detections.labels.copy()
        labels[fixed] = self.split.labels[self.box[fixed]]
        image_ids = self.split.image_ids[self.detections.image_index]
        order = kept[np.lexsort((image_ids[kept], -self.detections.scores[kept], labels[kept]))]
        counting = ~self.split.crowd
        classes = len(self.split.classes)
        positives = np.bincount(self.split.labels[counting], minlength=classes)
        asked = positives.copy()
        if unasked is not None:
            asked -= np.bincount(self.split.labels[counting & unasked], minlength=classes)
        found = np.full(classes, np.nan)
        right = ((self.kind == RIGHT) | fixed)[order]
        ends = np.searchsorted(labels[order], np.arange(classes + 1))
        for k in np.flatnonzero(positives):
            counted = np.flatnonzero(right[ends[k] : ends[k + 1]]) + 1
            found[k] = interpolated(counted, int(asked[k])).mean() if asked[k] else 1.0
        return found


def explain(split: Split, detections: Detections) -> Explained:
    """Find out what is wrong with each detection, and which boxes were missed.

    Raises:
        DataError: The detections are not of this split or not finite.
    """
    kind = np.full(len(detections.scores), RIGHT, dtype=np.int64)
    box = np.full(len(detections.scores), -1, dtype=np.int64)
    mends = np.zeros(len(detections.scores), dtype=np.bool_)
    found = np.zeros(len(split.boxes), dtype=np.bool_)
    within_reach = np.zeros(len(split.boxes), dtype=np.bool_)
    for image in paired_images(split, detections):
        kinds, columns = _kinds(image)
        kind[image.detections] = kinds
        about = columns >= 0
        box[image.detections[about]] = image.boxes[columns[about]]
        found[image.boxes[image.match[image.match >= 0]]] = True
        # Of the mendable errors about one free box, the first by score finds it.
        free = about & (kinds != RIGHT) & ~found[image.boxes[columns]] if len(image.boxes) else about & False
        rows = np.flatnonzero(free)
        _, first = np.unique(columns[rows], return_index=True)
        mends[image.detections[rows[first]]] = True
        within_reach[image.boxes[columns[rows]]] = True
    lost = ~found & ~split.crowd
    return Explained(split, detections, kind, box, mends, lost & ~within_reach, lost)


def _kinds(image: PairedImage) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Kind of each detection, in the paper's order of precedence, and the column of the box it is about."""
    rows, wrong = np.arange(len(image.match)), image.match < 0
    kinds = np.where(image.ignored, IGNORED, RIGHT)
    columns = image.match.copy()
    if not image.iou.shape[1]:
        kinds[wrong & ~image.ignored] = _BACKGROUND
        return kinds, columns
    own, other = np.where(image.same, image.iou, 0.0), np.where(image.same, 0.0, image.iou)
    used = np.zeros(image.iou.shape[1], dtype=np.bool_)
    used[image.match[image.match >= 0]] = True
    near, elsewhere = own.argmax(axis=1), other.argmax(axis=1)
    left = wrong & ~image.ignored
    for number, condition, about in (
        (_LOCALISATION, (own[rows, near] >= _BACKGROUND_IOU) & (own[rows, near] <= MATCH_IOU), near),
        (_CLASSIFICATION, other[rows, elsewhere] >= MATCH_IOU, elsewhere),
        (_DUPLICATE, (own * used).max(axis=1) >= MATCH_IOU, None),
        (_BACKGROUND, image.iou.max(axis=1) <= _BACKGROUND_IOU, None),
        (_BOTH, left, None),
    ):
        chosen = left & condition
        kinds[chosen] = number
        if about is not None:
            columns[chosen] = about[chosen]
        left &= ~chosen
    return kinds, columns


class ErrorReport(Frozen):
    """AP50 lost, by kind of error; None throughout where there is nothing to be found."""

    map50: float | None
    lost: dict[Kind, float | None] = Field(description="gain in AP50 where an oracle mends this kind alone")
    false_positives: float | None = Field(description="gain where all wrong detections are taken away")
    false_negatives: float | None = Field(description="gain where no box that was not found is asked for")
    by_class: dict[str, dict[Kind, float | None]] = Field(
        description="the share of each class in `lost`; adds up to it"
    )
    by_size: dict[str, dict[Kind, float | None]] = Field(
        description="gain where errors are mended that concern objects of this size (or such detections) alone"
    )
    count: dict[Kind, int]


def report(errors: Explained) -> ErrorReport:
    """What each kind of error costs, by class and by size of the object."""
    base = errors.precision()
    of_detections, of_boxes = errors.sizes()
    present = ~np.isnan(base)

    def gain(mended: NDArray[np.bool_] | None, unasked: NDArray[np.bool_] | None) -> NDArray[np.float64]:
        """(K,) gain of each class over the number of classes with boxes; sums to that of mAP50."""
        difference: NDArray[np.float64] = (errors.precision(mended, unasked) - base) / max(present.sum(), 1)
        return difference

    def of(number: int, size: int | None = None) -> NDArray[np.float64]:
        if number == _MISSED:
            return gain(None, errors.missed if size is None else errors.missed & (of_boxes == size))
        chosen = errors.kind == number
        return gain(chosen if size is None else chosen & (of_detections == size), None)

    each = {kind: of(number) for number, kind in enumerate(KINDS)}
    return ErrorReport(
        map50=float(base[present].mean()) if present.any() else None,
        lost={kind: _total(shares) for kind, shares in each.items()},
        false_positives=_total(_without_wrong(errors) - base, max(present.sum(), 1)),
        false_negatives=_total(gain(None, errors.lost)),
        by_class={
            name: {kind: float(shares[k]) if present[k] else None for kind, shares in each.items()}
            for k, name in enumerate(errors.split.classes)
        },
        by_size={
            name: {kind: _total(of(number, size)) for number, kind in enumerate(KINDS)}
            for size, name in enumerate(SIZES)
        },
        count={
            kind: int(errors.missed.sum() if number == _MISSED else (errors.kind == number).sum())
            for number, kind in enumerate(KINDS)
        },
    )


def _without_wrong(errors: Explained) -> NDArray[np.float64]:
    nothing = np.zeros_like(errors.mends)
    bare = Explained(errors.split, errors.detections, errors.kind, errors.box, nothing, errors.missed, errors.lost)
    return bare.precision(errors.kind >= 0)


def _total(shares: NDArray[np.float64], count: int = 1) -> float | None:
    defined = shares[~np.isnan(shares)]
    return float(defined.sum() / count) if len(defined) else None
