"""Precision, recall and F1 against the confidence threshold, and the choice of a threshold. Needs no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuner.config.errors import ConfigError
from tuner.postprocess.matching import Matches, TruthIndex


@dataclass(frozen=True)
class Criterion:
    """What a confidence threshold is chosen by.

    Attributes:
        maximise: "f1", "recall" or "precision".
        subject_to: The quantity with a lower limit ("precision" or "recall"), or None.
        least: The limit.
    """

    maximise: str
    subject_to: str | None = None
    least: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Criterion:
        """Read `f1`, `recall@precision=0.9` or `precision@recall=0.9`.

        Raises:
            ConfigError: It is none of these.
        """
        if text == "f1":
            return cls("f1")
        match = re.fullmatch(r"(recall)@(precision)=([\d.]+)|(precision)@(recall)=([\d.]+)", text)
        try:
            maximise, subject_to, least = [part for part in match.groups() if part] if match else ("", "", "")
            limit = float(least)
        except ValueError:
            limit = -1.0
        if not 0.0 <= limit <= 1.0:
            raise ConfigError(
                f"operating criterion {text!r} is not known",
                hint="Use f1, recall@precision=X or precision@recall=X with X in 0 … 1.",
            )
        return cls(maximise, subject_to, limit)


@dataclass(frozen=True)
class Point:
    """Precision, recall and F1 of all detections with a score of at least `confidence`.

    Where nothing is detected, precision is 0 by convention (recall and F1 are 0 by definition).
    """

    confidence: float
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, eq=False)
class Curve:
    """Counts at every distinct score, exact.

    Attributes:
        thresholds: (S,) float64, distinct scores, descending.
        right: (S,) int64, true positives among the detections that score at least the threshold.
        wrong: (S,) int64, false positives among them; what fell on crowds is neither.
        positives: Number of boxes to be found.
    """

    thresholds: NDArray[np.float64]
    right: NDArray[np.int64]
    wrong: NDArray[np.int64]
    positives: int

    @property
    def precision(self) -> NDArray[np.float64]:
        """(S,) float64; 0 where nothing but crowds was detected."""
        precision: NDArray[np.float64] = self.right / np.maximum(self.right + self.wrong, 1)
        return precision

    @property
    def recall(self) -> NDArray[np.float64]:
        """(S,) float64; NaN where there is nothing to be found."""
        recall: NDArray[np.float64] = self.right / (self.positives or np.nan)
        return recall

    @property
    def f1(self) -> NDArray[np.float64]:
        """(S,) float64; NaN where there is nothing to be found."""
        f1: NDArray[np.float64] = 2 * self.right / (self.right + self.wrong + (self.positives or np.nan))
        return f1

    def counts(self, confidence: float) -> tuple[int, int]:
        """True and false positives at any threshold, whether a score or not."""
        above = int(np.searchsorted(-self.thresholds, -confidence, side="right"))
        return (int(self.right[above - 1]), int(self.wrong[above - 1])) if above else (0, 0)

    def at(self, confidence: float) -> Point | None:
        """The point at any threshold; None where there is nothing to be found, so that nothing is defined."""
        return point(confidence, *self.counts(confidence), self.positives)

    def best(self, criterion: Criterion) -> float | None:
        """The threshold that serves the criterion best; of equals the highest.

        Returns:
            None where there is nothing to choose from: no boxes, no detections, or the limit is never reached.
        """
        if not self.positives:
            return None
        value: NDArray[np.float64] = getattr(self, criterion.maximise)
        if criterion.subject_to:
            value = np.where(getattr(self, criterion.subject_to) >= criterion.least, value, -1.0)
        if not len(value) or value.max() < 0:
            return None
        return float(self.thresholds[np.argmax(value)])


@dataclass(frozen=True, eq=False)
class Hits:
    """What became of each detection at one IoU, reduced to what the curves need.

    Attributes:
        scores: (D,) float32.
        image: (D,) int32, index of the image.
        labels: (D,) int32.
        right: (D,) bool, true positives; all others are false positives (those on crowds are left out).
        positives: (N, K) int32, number of boxes to be found in each image of each class.
    """

    scores: NDArray[np.float32]
    image: NDArray[np.int32]
    labels: NDArray[np.int32]
    right: NDArray[np.bool_]
    positives: NDArray[np.int32]

    @classmethod
    def of(cls, matches: Matches, truth: TruthIndex, subset: NDArray[np.bool_] | None = None, bit: int = 0) -> Hits:
        """Take one bit of `matches`.

        Args:
            matches: Of detections with `truth`.
            truth: The ground truth.
            subset: (P,) bool, which of the matched detections there are (`TruthIndex.match_sets`); None: all.
            bit: The place of the bit, such as that of the subset.
        """
        mask = np.uint64(1 << bit)
        kept = (matches.ignored & mask) == 0
        if subset is not None:
            kept &= subset[matches.order]
        return cls(
            scores=matches.scores[kept].astype(np.float32),
            image=matches.image[kept].astype(np.int32),
            labels=matches.labels[kept].astype(np.int32),
            right=(matches.taken[kept] & mask).astype(np.bool_),
            positives=truth.positives,
        )

    def curve(self, *, images: NDArray[np.bool_] | None = None, label: int | None = None) -> Curve:
        """The curve over all images and classes together, or over some images, or of one class.

        Args:
            images: (N,) bool, the images that count.
            label: The class that counts.
        """
        kept = np.ones(len(self.scores), dtype=np.bool_)
        positives = self.positives
        if images is not None:
            kept &= images[self.image]
            positives = positives[images]
        if label is not None:
            kept &= self.labels == label
            positives = positives[:, label]
        scores, right = self.scores[kept].astype(np.float64), self.right[kept]
        order = np.argsort(-scores)
        scores, found = scores[order], np.cumsum(right[order], dtype=np.int64)
        last = np.flatnonzero(np.diff(scores, append=-np.inf))  # of each run of equal scores
        return Curve(scores[last], found[last], last + 1 - found[last], int(positives.sum()))


@dataclass(frozen=True)
class CrossFit:
    """The operating criterion judged on other images than those that chose the threshold.

    Attributes:
        pooled: Counts of all folds together; its `confidence` is the mean of the folds'.
        f1_spread: Standard deviation of F1 over the folds (n - 1), of those that have boxes.
        confidences: The threshold that each fold was judged at.
    """

    pooled: Point
    f1_spread: float
    confidences: tuple[float, ...]


def cross_fit(hits: Hits, criterion: Criterion, *, folds: int = 5, seed: int = 0) -> CrossFit | None:
    """Choose a threshold on all folds of the images but one, count on that one, for each.

    Returns:
        None where it cannot be done: fewer than two folds with boxes to be found, or a part of the images on which no
        threshold can be chosen.
    """
    number = len(hits.positives)
    fold = np.random.default_rng(seed).permutation(number) % folds
    used = [f for f in range(folds) if hits.positives[fold == f].any()]
    if len(used) < 2:
        return None
    confidences, counts, points = [], [], []
    for f in range(min(folds, number)):
        confidence = hits.curve(images=fold != f).best(criterion)
        if confidence is None:
            return None
        judged = hits.curve(images=fold == f)
        confidences.append(confidence)
        counts.append(judged.counts(confidence))
        points.append(judged.at(confidence))
    right, wrong = np.sum(counts, axis=0).tolist()
    pooled = point(float(np.mean(confidences)), right, wrong, int(hits.positives.sum()))
    spread = float(np.std([p.f1 for p in points if p], ddof=1))
    return CrossFit(pooled, spread, tuple(confidences)) if pooled else None


def point(confidence: float, right: int, wrong: int, positives: int) -> Point | None:
    """The point that counts make; None where there is nothing to be found."""
    if not positives:
        return None
    return Point(
        confidence=confidence,
        precision=right / max(right + wrong, 1),
        recall=right / positives,
        f1=2 * right / (right + wrong + positives),
    )
