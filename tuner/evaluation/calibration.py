"""The best operating points of one detector for the common criteria, and F1 and mAP over all thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuner.config.errors import listed
from tuner.config.trial import WHOLE, NmsKind, Tiles
from tuner.evaluation.coco import IOU_THRESHOLDS, MAX_DETECTIONS, CocoEvaluator, interpolated
from tuner.models.predictions import Detections, RawPredictions
from tuner.postprocess.choice import FEW_BOXES, few_boxes
from tuner.postprocess.curve import Criterion
from tuner.postprocess.operating_point import OperatingPoint
from tuner.postprocess.sweep import NMS_IOUS, SweepRow, best_operating_points, sweep

CRITERIA = ("f1", "recall@precision=0.9", "precision@recall=0.9", "count")
GRID: NDArray[np.float64] = np.linspace(0.0, 0.95, 20)
"""Confidence thresholds of the maps, for display only: every distinct score is a candidate."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """What every suppression and threshold gives.

    Attributes:
        points: The best operating point by each criterion; None where no threshold serves it.
        rows: All suppressions, with mAP (no confidence threshold) as their score.
        map_grid: (R, G) float64, mAP of each row at each threshold of `GRID`; NaN where undefined.
        f1_grid: (R, G) float64, F1 at IoU 0.5, all classes together; NaN where undefined.
        warnings: Sentences.
    """

    points: dict[str, OperatingPoint | None]
    rows: tuple[SweepRow, ...]
    map_grid: NDArray[np.float64]
    f1_grid: NDArray[np.float64]
    warnings: tuple[str, ...]


def calibrate(
    evaluator: CocoEvaluator,
    raw: RawPredictions,
    *,
    kinds: Sequence[NmsKind] = ("greedy",),
    criteria: Sequence[str] = CRITERIA,
    tiles: Tiles = WHOLE,
    max_detections: int = 100,
    per_class: bool = False,
) -> Calibration:
    """Find the operating point that serves each criterion best, among all suppressions and thresholds.

    Suppression and threshold are chosen together by all images; what is expected there is counted on images that
    chose neither (`tuner.postprocess.sweep.best_operating_points`).

    Raises:
        DataError: The predictions are not of this split or not finite.
        ConfigError: A criterion is not known.
    """
    for criterion in criteria:
        Criterion.parse(criterion)  # refused before the work begins
    maps: list[NDArray[np.float64]] = []

    def score(found: Detections) -> float | None:
        maps.append(map_by_confidence(evaluator, found, GRID))
        return None if np.isnan(maps[-1][0]) else float(maps[-1][0])

    rows = tuple(
        sweep(raw, evaluator.truth, NMS_IOUS, kinds=kinds, tiles=tiles, max_detections=max_detections, score=score)
    )
    classes = evaluator.split.classes
    few = few_boxes(rows[0].hits, classes) if per_class else {}
    rare = [f"{name} ({count})" for name, count in few.items() if count]
    absent = [name for name, count in few.items() if not count]
    warnings = []
    if rare:
        warnings.append(
            f"classes with fewer than {FEW_BOXES} boxes have thresholds drawn towards the common one: {listed(rare)}"
        )
    if absent:
        warnings.append(f"classes without boxes take the common threshold: {listed(absent)}")
    curves = (row.hits.curve() for row in rows)  # one at a time is held in memory
    f1 = [[np.nan if (here := curve.at(c)) is None else here.f1 for c in GRID.tolist()] for curve in curves]
    points = best_operating_points(rows, criteria, classes=classes if per_class else None)
    flattered = [name for name, point in points.items() if point is not None and point.f1_spread is None]
    if flattered:
        warnings.append(
            f"{', '.join(flattered)}: cannot be judged on other images than those that chose the point (too few "
            "images, or the limit is not reached on a part of them); the figures are better than what to expect"
        )
    return Calibration(
        points=points,
        rows=rows,
        map_grid=np.array(maps),
        f1_grid=np.array(f1),
        warnings=tuple(warnings),
    )


def map_by_confidence(
    evaluator: CocoEvaluator, detections: Detections, confidences: NDArray[np.float64]
) -> NDArray[np.float64]:
    """COCO's mAP of those detections that score at least c, for each c, from one matching.

    Matching serves higher scores first, so a threshold cuts the end of every precision–recall curve.

    Args:
        evaluator: Of the split.
        detections: With no confidence threshold.
        confidences: (G,) float64.

    Returns:
        (G,) float64; NaN where there is nothing to be found.
    """
    truth = evaluator.truth
    matches = truth.match(detections, IOU_THRESHOLDS.tolist(), max_detections=MAX_DETECTIONS)
    positives = truth.positives.sum(axis=0)
    order = np.lexsort((-matches.scores, matches.labels))
    labels, scores = matches.labels[order], matches.scores[order]
    taken, ignored = matches.taken[order], matches.ignored[order]
    means = np.full((len(positives), len(IOU_THRESHOLDS), len(confidences)), np.nan)
    for k in np.flatnonzero(positives):
        part = slice(*np.searchsorted(labels, [k, k + 1]))
        for t in range(len(IOU_THRESHOLDS)):
            bit = np.uint64(1 << t)
            hits = np.flatnonzero(taken[part] & bit)
            counted = np.cumsum((ignored[part] & bit) == 0)[hits]
            above = np.searchsorted(-scores[part][hits], -confidences, side="right")
            ends, which = np.unique(above, return_inverse=True)  # few, where a class has few boxes
            means[k, t] = np.array([interpolated(counted[:end], positives[k]).mean() for end in ends])[which]
    if not positives.any():
        return np.full(len(confidences), np.nan)
    result: NDArray[np.float64] = np.nanmean(means, axis=(0, 1))
    return result
