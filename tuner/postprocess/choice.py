"""Choosing suppression and thresholds, and judging the choice on images that had no part in it. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuner.postprocess.curve import Criterion, Hits, Point, point

FEW_BOXES = 50
"""A class with fewer boxes has its threshold drawn towards that of all classes together, in proportion."""

FOLDS = 5
"""Parts of the images, each of which judges what the others choose."""


@dataclass(frozen=True, eq=False)
class Choice:
    """What serves a criterion best.

    Attributes:
        candidate: Index of the suppression.
        confidence: The threshold of all classes together.
        by_class: (K,) float64, the threshold of each class.
    """

    candidate: int
    confidence: float
    by_class: NDArray[np.float64]


def choose(
    candidates: Sequence[Hits],
    criterion: Criterion,
    *,
    images: NDArray[np.bool_] | None = None,
    per_class: bool = False,
) -> Choice | None:
    """Choose among several suppressions and all thresholds; of equals the first suppression.

    The threshold of a class is its own best one, if it has `FEW_BOXES` boxes. With fewer, n, it is
    (n · own + (FEW_BOXES - n) · common) / FEW_BOXES: the best threshold of few boxes is mostly chance. A class that
    no threshold serves takes the common one.

    Args:
        candidates: The detections of each suppression.
        criterion: What is served.
        images: (N,) bool, the images that choose; None: all.
        per_class: Whether each class gets its own threshold; the suppression is chosen by the common one.

    Returns:
        None where no threshold serves.
    """
    served = [hits.curve(images=images).best_with_value(criterion) for hits in candidates]
    able = [(value, -i) for i, best in enumerate(served) if best is not None for value in (best[1],)]
    if not able:
        return None
    row = -max(able)[1]
    hits, best = candidates[row], served[row]
    assert best is not None
    thresholds = np.full(hits.positives.shape[1], best[0])
    if per_class:
        for k in range(len(thresholds)):
            curve = hits.curve(images=images, label=k)
            own = curve.best(criterion)
            if own is not None:
                weight = min(1.0, curve.positives / FEW_BOXES)
                # Exact where both agree and where its own counts alone: rounded up, it would cut the box that it is of.
                thresholds[k] = own if weight == 1 else best[0] + weight * (own - best[0])
    return Choice(row, best[0], thresholds)


@dataclass(frozen=True)
class CrossFit:
    """The operating criterion judged on other images than those that chose.

    Attributes:
        pooled: Counts of all folds together; its `confidence` is the mean of the folds'.
        f1_spread: Standard deviation of F1 over the folds (n - 1), of those that have boxes.
        count_error: Mean absolute error of the number of detections per image, of all folds together.
        confidences: The threshold that each fold was judged at.
    """

    pooled: Point
    f1_spread: float
    count_error: float
    confidences: tuple[float, ...]


def cross_fit(candidates: Sequence[Hits], criterion: Criterion, *, per_class: bool = False) -> CrossFit | None:
    """Choose suppression and thresholds on all of `FOLDS` folds of the images but one, and count on that one, for each.

    Returns:
        None where it cannot be done: fewer than two folds with boxes to be found, or a part of the images on which no
        threshold can be chosen.
    """
    positives = candidates[0].positives
    number = len(positives)
    fold = np.random.default_rng(0).permutation(number) % FOLDS
    used = [f for f in range(FOLDS) if positives[fold == f].any()]
    if len(used) < 2:
        return None
    confidences, counts, points = [], [], []
    for f in range(min(FOLDS, number)):
        chosen = choose(candidates, criterion, images=fold != f, per_class=per_class)
        if chosen is None:
            return None
        found = candidates[chosen.candidate].counted(chosen.by_class, fold == f)
        confidences.append(chosen.confidence)
        counts.append(found)
        points.append(point(chosen.confidence, *found[:2], int(positives[fold == f].sum())))
    right, wrong, miscounted = np.sum(counts, axis=0).tolist()
    pooled = point(float(np.mean(confidences)), right, wrong, int(positives.sum()))
    spread = float(np.std([p.f1 for p in points if p], ddof=1))
    return CrossFit(pooled, spread, miscounted / number, tuple(confidences)) if pooled else None


def few_boxes(hits: Hits, classes: Sequence[str]) -> dict[str, int]:
    """Number of boxes of the classes that have too few to choose a threshold by."""
    counts = hits.positives.sum(axis=0).tolist()
    return {name: count for name, count in zip(classes, counts, strict=True) if count < FEW_BOXES}
