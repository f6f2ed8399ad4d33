"""COCO's box metrics from arrays: equal to pycocotools' to 1e-9, without its dictionaries and its loops.

Matching is `tuner.postprocess.matching`. Averaging looks at true positives only: between two of them precision
falls, so the interpolated precision (its running maximum from the right) is decided at true positives, of which there
are at most as many as boxes, however many detections there are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tuner.data.split import Split
from tuner.evaluation.metrics import Metrics
from tuner.models.predictions import Detections
from tuner.postprocess.matching import ALL_AREAS, AreaRange, Matches, TruthIndex, within

IOU_THRESHOLDS: NDArray[np.float64] = np.linspace(0.5, 0.95, 10)
RECALLS: NDArray[np.float64] = np.linspace(0.0, 1.0, 101)
AREA_RANGES: dict[str, AreaRange] = {
    "all": ALL_AREAS,
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
MAX_DETECTIONS = 100
"""Detections that count for each image and class."""
_T = len(IOU_THRESHOLDS)


class CocoEvaluator:
    """Evaluates detections of one split; the ground truth is arranged once, here.

    Definitions are those of pycocotools' `COCOeval` for boxes. The one exception: an annotation whose id is 0
    is an annotation like any other (pycocotools takes a match with it for none).

    Attributes:
        split: The ground truth.
        truth: The same, arranged for matching.
    """

    def __init__(self, split: Split) -> None:
        self.split = split
        self.truth = TruthIndex(split)
        self._positives = {
            name: np.bincount(self.truth.labels[self.truth.counting(area)], minlength=self.truth.classes)
            for name, area in AREA_RANGES.items()
        }

    def evaluate(self, detections: Detections) -> Metrics:
        """Compute all of `Metrics` but the operating point.

        Args:
            detections: Of every image of the split, xyxy in original pixels.

        Raises:
            DataError: The detections are not of this split or not finite.
        """
        matches = self.truth.match(detections, IOU_THRESHOLDS.tolist(), tuple(AREA_RANGES.values()), MAX_DETECTIONS)
        recall = {name: self._recall(matches, name, MAX_DETECTIONS) for name in AREA_RANGES}
        recall |= {"1": self._recall(matches, "all", 1), "10": self._recall(matches, "all", 10)}
        return summarise(self._precision(matches), recall, self.split.classes)

    def _recall(self, matches: Matches, area: str, most: int) -> NDArray[np.float64]:
        """(T, K) recall with `most` detections for each image and class; -1 where there is nothing to find."""
        positives = self._positives[area]
        recall = np.full((_T, self.truth.classes), -1.0)
        kept = (matches.rank < most) & (matches.taken != 0)
        labels, taken = matches.labels[kept], matches.taken[kept]
        for t in range(_T):
            found = np.bincount(labels[_bit(taken, t, area)], minlength=self.truth.classes)
            np.divide(found, positives, out=recall[t], where=positives > 0)
        return recall

    def _precision(self, matches: Matches) -> dict[str, NDArray[np.float64]]:
        """(T, R, K) interpolated precision for each size class; -1 where there is nothing to find."""
        order = np.lexsort((-matches.scores, matches.labels))
        classes = np.arange(self.truth.classes + 1)
        starts = np.searchsorted(matches.labels[order], classes)
        # Which threshold a detection passes matters only where it matched at one of them.
        rows = np.flatnonzero((matches.taken | matches.ignored)[order])
        row_starts = np.searchsorted(rows, starts)
        row_labels = matches.labels[order][rows]
        taken, ignored = matches.taken[order][rows], matches.ignored[order][rows]
        result = {}
        for name, area in AREA_RANGES.items():
            positives = self._positives[name]
            result[name] = np.where(positives > 0, 0.0, -1.0) * np.ones((_T, len(RECALLS), 1))
            inside = within(matches.areas[order], area)
            # Detections that count up to each one, if nothing matched; `change` is what matching makes of it.
            counted = _running(inside)
            counted_here = counted[rows + 1] - counted[starts[row_labels]]
            for t in range(_T):
                right = _bit(taken, t, name)
                change = _running((right & ~inside[rows]).astype(np.int64) - (_bit(ignored, t, name) & inside[rows]))
                total = counted_here + change[1:] - change[row_starts[row_labels]]
                hits = np.flatnonzero(right)
                ends = np.searchsorted(hits, row_starts)
                for k in np.flatnonzero((np.diff(ends) > 0) & (positives > 0)):
                    result[name][t, :, k] = interpolated(total[hits[ends[k] : ends[k + 1]]], positives[k])
        return result


def interpolated(counted: NDArray[np.int64], positives: int) -> NDArray[np.float64]:
    """(R,) precision of one class at each of `RECALLS`: the best at that recall or a higher one; 0 beyond the last.

    Args:
        counted: (n,) detections that count up to each true positive, itself included, by descending score.
        positives: Boxes to be found, at least one.
    """
    number = np.arange(1.0, len(counted) + 1)
    precision = number / (counted + np.spacing(1))
    best = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return best[np.searchsorted(number / positives, RECALLS, side="left")]


def summarise(
    precision: dict[str, NDArray[np.float64]], recall: dict[str, NDArray[np.float64]], classes: tuple[str, ...]
) -> Metrics:
    """Average COCO's tables into `Metrics`.

    Args:
        precision: (T, R, K) for each name in `AREA_RANGES`; -1 means undefined.
        recall: (T, K) for each name in `AREA_RANGES` with all detections, for "1" and for "10".
        classes: K names.
    """
    everything = precision["all"]
    return Metrics(
        map=_mean(everything),
        map50=_mean(everything[0]),
        map75=_mean(everything[5]),
        map_small=_mean(precision["small"]),
        map_medium=_mean(precision["medium"]),
        map_large=_mean(precision["large"]),
        ar1=_mean(recall["1"]),
        ar10=_mean(recall["10"]),
        ar100=_mean(recall["all"]),
        ar_small=_mean(recall["small"]),
        ar_medium=_mean(recall["medium"]),
        ar_large=_mean(recall["large"]),
        class_map={name: _mean(everything[:, :, k]) for k, name in enumerate(classes)},
    )


def _mean(values: NDArray[np.float64]) -> float | None:
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else None


def _bit(bits: NDArray[np.uint64], threshold: int, area: str) -> NDArray[np.bool_]:
    position = threshold + _T * list(AREA_RANGES).index(area)
    return (bits & np.uint64(1 << position)).astype(np.bool_)


def _running(values: NDArray[np.int64] | NDArray[np.bool_]) -> NDArray[np.int64]:
    """(n + 1,) sums of the first 0, 1, … n values."""
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(values, dtype=np.int64)])
