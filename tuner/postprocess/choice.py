"""Choosing suppression and thresholds, and judging the choice on images that had no part in it. Needs no torch."""

from __future__ import annotations

import functools
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
    criteria: Sequence[Criterion],
    *,
    images: NDArray[np.bool_] | None = None,
    per_class: bool = False,
) -> list[Choice | None]:
    """Choose by each criterion among several suppressions and all thresholds; of equals the first suppression.

    The threshold of a class is its own best one, if it has `FEW_BOXES` boxes. With fewer, n, it is
    (n · own + (FEW_BOXES - n) · common) / FEW_BOXES: the best threshold of few boxes is mostly chance. A class that
    no threshold serves takes the common one.

    Args:
        candidates: The detections of each suppression.
        criteria: What is served.
        images: (N,) bool, the images that choose; None: all.
        per_class: Whether each class gets its own threshold; the suppression is chosen by the common one.

    Returns:
        A choice for each criterion; None where no threshold serves it.
    """
    curves = (hits.curve(images=images) for hits in candidates)  # one at a time is held in memory
    served = [[curve.best_with_value(criterion) for criterion in criteria] for curve in curves]
    of_classes = functools.cache(lambda row: _best_of_classes(candidates[row], criteria, images))
    choices: list[Choice | None] = []
    for i, column in enumerate(zip(*served, strict=True)):
        able = {row: best for row, best in enumerate(column) if best is not None}
        if not able:
            choices.append(None)
            continue
        row = max(able, key=lambda row: able[row][1])
        common = able[row][0]
        thresholds = np.full(candidates[row].positives.shape[1], common)
        for k, (weight, own) in enumerate(of_classes(row) if per_class else ()):
            if (best := own[i]) is not None:
                # Exact where both agree and where its own counts alone: rounded up, it would cut the box that it is of.
                thresholds[k] = best if weight == 1 else common + weight * (best - common)
        choices.append(Choice(row, common, thresholds))
    return choices


def _best_of_classes(
    hits: Hits, criteria: Sequence[Criterion], images: NDArray[np.bool_] | None
) -> list[tuple[float, list[float | None]]]:
    """Of each class how much its own thresholds weigh, and these, for each criterion."""
    curves = (hits.curve(images=images, label=k) for k in range(hits.positives.shape[1]))
    return [(min(1.0, curve.positives / FEW_BOXES), [curve.best(c) for c in criteria]) for curve in curves]


@dataclass(frozen=True)
class CrossFit:
    """The operating criterion judged on other images than those that chose.

    Attributes:
        pooled: Counts of all folds together; its `confidence` is the mean of the folds'.
        f1_spread: Standard deviation of F1 over the folds (n - 1), of those that have boxes.
        count_error: Mean absolute error of the number of detections per image, of all folds together.
    """

    pooled: Point
    f1_spread: float
    count_error: float


def cross_fit(
    candidates: Sequence[Hits], criteria: Sequence[Criterion], *, per_class: bool = False
) -> list[CrossFit | None]:
    """Choose suppression and thresholds on all of `FOLDS` folds of the images but one, and count on that one, for each.

    Returns:
        The judgement of each criterion. None where it cannot be done: fewer than two folds with boxes to be found, or a
        part of the images on which no threshold can be chosen.
    """
    positives = candidates[0].positives
    number = len(positives)
    fold = np.random.default_rng(0).permutation(number) % FOLDS
    tested = [fold == f for f in range(min(FOLDS, number))]
    if sum(positives[here].any() for here in tested) < 2:
        return [None] * len(criteria)
    chosen = [choose(candidates, criteria, images=~here, per_class=per_class) for here in tested]
    return [_judged(candidates, choices, tested) for choices in zip(*chosen, strict=True)]


def _judged(
    candidates: Sequence[Hits], choices: Sequence[Choice | None], tested: Sequence[NDArray[np.bool_]]
) -> CrossFit | None:
    """The counts of each choice on its (N,) images of `tested`, in all; None where one could not be made."""
    positives = candidates[0].positives
    confidences, counts, points = [], [], []
    for chosen, here in zip(choices, tested, strict=True):
        if chosen is None:
            return None
        found = candidates[chosen.candidate].counted(chosen.by_class, here)
        confidences.append(chosen.confidence)
        counts.append(found)
        points.append(point(chosen.confidence, *found[:2], int(positives[here].sum())))
    right, wrong, miscounted = np.sum(counts, axis=0).tolist()
    pooled = point(float(np.mean(confidences)), right, wrong, int(positives.sum()))
    spread = float(np.std([p.f1 for p in points if p], ddof=1))
    return CrossFit(pooled, spread, miscounted / len(positives)) if pooled else None


def few_boxes(hits: Hits, classes: Sequence[str]) -> dict[str, int]:
    """Number of boxes of the classes that have too few to choose a threshold by."""
    counts = hits.positives.sum(axis=0).tolist()
    return {name: count for name, count in zip(classes, counts, strict=True) if count < FEW_BOXES}
