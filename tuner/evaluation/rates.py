"""Precision, recall and F1 against the confidence threshold: at each IoU, over all classes (micro, macro) and by class.

Detections are matched once; all thresholds are read off the same matches, because greedy matching serves higher scores
first. For thresholds of one IoU and all classes together, exact at every score, see `tuner.postprocess.curve`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tuner.config.base import Frozen
from tuner.evaluation.coco import IOU_THRESHOLDS
from tuner.models.predictions import Detections
from tuner.postprocess.matching import TruthIndex

GRID: NDArray[np.float64] = np.linspace(0.0, 1.0, 101)
"""Confidence thresholds for tables and pictures."""


@dataclass(frozen=True, eq=False)
class Rates:
    """Three arrays of one shape; NaN where there is nothing to be found.

    Where nothing was detected, precision is 0 by convention (recall and F1 are 0 by definition).
    """

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Tally:
    """Counts of the detections that score at least a threshold.

    Attributes:
        confidences: (C,) float64, thresholds, ascending.
        right: (T, C, K) int64, true positives for each IoU threshold and class.
        found: (T, C, K) int64, detections; those on crowds are left out.
        positives: (K,) int64, boxes to be found.
    """

    confidences: NDArray[np.float64]
    right: NDArray[np.int64]
    found: NDArray[np.int64]
    positives: NDArray[np.int64]

    def by_class(self) -> Rates:
        """(T, C, K)."""
        return _rates(self.right, self.found, self.positives)

    def micro(self) -> Rates:
        """(T, C): of all classes' counts together, so that frequent classes weigh more."""
        return _rates(self.right.sum(axis=2), self.found.sum(axis=2), self.positives.sum())

    def macro(self) -> Rates:
        """(T, C): means over the classes that have boxes, so that all weigh the same."""
        present = self.positives > 0
        if not present.any():
            return self.micro()
        each = self.by_class()
        return Rates(*(v[..., present].mean(axis=-1) for v in (each.precision, each.recall, each.f1)))


def tally(truth: TruthIndex, detections: Detections, confidences: ArrayLike = GRID) -> Tally:
    """Count right and wrong detections at COCO's ten IoU thresholds.

    Args:
        truth: The ground truth.
        detections: Of the same split, after suppression.
        confidences: (C,) thresholds in ascending order.

    Raises:
        DataError: The detections are not of this split or not finite.
    """
    limits = np.asarray(confidences, dtype=np.float64)
    matches = truth.match(detections, IOU_THRESHOLDS.tolist())
    shape = (len(limits) + 1, truth.classes)
    # A detection passes the first `passed` thresholds.
    passed = np.searchsorted(limits, matches.scores, side="right")
    cell = passed * truth.classes + matches.labels

    def counted(subset: NDArray[np.bool_]) -> NDArray[np.int64]:
        table = np.bincount(cell[subset], minlength=shape[0] * shape[1]).reshape(shape)
        return np.cumsum(table[::-1], axis=0)[::-1][1:]

    right, found = [], []
    for t in range(len(IOU_THRESHOLDS)):
        bit = np.uint64(1 << t)
        right.append(counted((matches.taken & bit) != 0))
        found.append(counted((matches.ignored & bit) == 0))
    return Tally(limits, np.array(right), np.array(found), truth.positives.sum(axis=0, dtype=np.int64))


def _rates(right: NDArray[np.int64], found: NDArray[np.int64], positives: NDArray[np.int64]) -> Rates:
    known = np.where(positives > 0, positives, np.nan)
    return Rates(
        precision=np.where(positives > 0, right / np.maximum(found, 1), np.nan),
        recall=right / known,
        f1=2 * right / (found + known),
    )


class RateRow(Frozen):
    """Precision, recall and F1 at one confidence or operating point: at IoU 0.5, and averaged over IoU 0.50:0.95."""

    precision: float | None
    recall: float | None
    f1: float | None
    precision_mean: float | None
    recall_mean: float | None
    f1_mean: float | None


def row_at(rates: Rates, place: int | tuple[int, int]) -> RateRow:
    """The row at one confidence (of `micro` and `macro`), or at one confidence and class (of `by_class`)."""
    index = (slice(None), *place) if isinstance(place, tuple) else (slice(None), place)
    columns = {name: getattr(rates, name)[index] for name in ("precision", "recall", "f1")}
    return RateRow(
        **{name: _defined(column[0]) for name, column in columns.items()},
        **{f"{name}_mean": _defined(column.mean()) for name, column in columns.items()},
    )


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
