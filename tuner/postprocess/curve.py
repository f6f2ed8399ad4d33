"""Precision, recall and F1 against the confidence threshold, and the choice of a threshold. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuner.config.errors import ConfigError
from tuner.config.objective import CRITERION
from tuner.postprocess.matching import Matches, TruthIndex
from tuner.postprocess.pairs import rank_in_run


@dataclass(frozen=True)
class Criterion:
    """What a confidence threshold is chosen by.

    Attributes:
        maximise: "f1", "recall", "precision", or "count": the smallest mean absolute error of the number of
            detections per image.
        subject_to: The quantity with a lower limit ("precision" or "recall"), or None.
        least: The limit.
        within: The lowest and the highest threshold that may be chosen.
    """

    maximise: str
    subject_to: str | None = None
    least: float = 0.0
    within: tuple[float, float] = (0.0, 1.0)

    @classmethod
    def parse(cls, text: str) -> Criterion:
        """Read `f1`, `count`, `recall@precision=0.9` or `precision@recall=0.9`.

        Raises:
            ConfigError: It is none of these.
        """
        if text in ("f1", "count"):
            return cls(text)
        if (match := CRITERION.fullmatch(text)) is not None:
            maximise, subject_to, least = [part for part in match.groups() if part]
            if float(least) <= 1.0:
                return cls(maximise, subject_to, float(least))
        raise ConfigError(
            f"operating criterion {text!r} is not known",
            hint="Use f1, count, recall@precision=X or precision@recall=X with X in 0 … 1.",
        )


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
        images: Number of images.
        miscounted: (S,) int64, sum over the images of how far the number of detections is from that of boxes.
    """

    thresholds: NDArray[np.float64]
    right: NDArray[np.int64]
    wrong: NDArray[np.int64]
    positives: int
    images: int
    miscounted: NDArray[np.int64]

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

    @property
    def count_error(self) -> NDArray[np.float64]:
        """(S,) float64, mean absolute error of the number of detections per image."""
        error: NDArray[np.float64] = self.miscounted / max(self.images, 1)
        return error

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
        best = self.best_with_value(criterion)
        return best[0] if best else None

    def best_with_value(self, criterion: Criterion) -> tuple[float, float] | None:
        """What `best` finds, and its value, of which more is better (the count error has its sign turned)."""
        if not self.positives or not len(self.thresholds):
            return None
        value = -self.count_error if criterion.maximise == "count" else getattr(self, criterion.maximise)
        if criterion.subject_to:
            value = np.where(getattr(self, criterion.subject_to) >= criterion.least, value, -np.inf)
        low, high = criterion.within
        value = np.where((self.thresholds >= low) & (self.thresholds <= high), value, -np.inf)
        at = int(np.argmax(value))
        return (float(self.thresholds[at]), float(value[at])) if value[at] > -np.inf else None


@dataclass(frozen=True, eq=False)
class Hits:
    """What became of each detection at one IoU, reduced to what the curves need.

    Attributes:
        scores: (D,) float64.
        image: (D,) int32, index of the image.
        labels: (D,) int32, ascending.
        right: (D,) bool, true positives; all others are false positives (those on crowds are left out).
        positives: (N, K) int32, number of boxes to be found in each image of each class.
    """

    scores: NDArray[np.float64]
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
            scores=matches.scores[kept],
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
        part, true = slice(None), self.positives
        if label is not None:
            ends = np.searchsorted(self.labels, np.array([label, label + 1], dtype=np.int32))
            part, true = slice(*ends), true[:, label : label + 1]
        scores, right, image = self.scores[part], self.right[part], self.image[part]
        true_counts = true.sum(axis=1)
        total, number = int(true_counts.sum()), len(true_counts)
        if images is not None:
            kept = images[image]
            scores, right, image = scores[kept], right[kept], image[kept]
            total, number = int(true_counts[images].sum()), int(images.sum())
        order = np.argsort(-scores, kind="stable")
        scores, found, image = scores[order], np.cumsum(right[order], dtype=np.int64), image[order]
        # Each detection of an image brings its count nearer to the truth until that is reached, then further away.
        further = _rank(image) >= true_counts[image]
        miscounted = total + np.cumsum(np.where(further, 1, -1), dtype=np.int64)
        last = np.flatnonzero(np.diff(scores, append=-np.inf))  # of each run of equal scores
        return Curve(scores[last], found[last], last + 1 - found[last], total, number, miscounted[last])

    def reaching(self, thresholds: NDArray[np.float64]) -> NDArray[np.bool_]:
        """(D,) bool, which detections score at least the (K,) threshold of their class."""
        return self.scores >= thresholds[self.labels]

    def counted(self, thresholds: NDArray[np.float64], images: NDArray[np.bool_]) -> tuple[int, int, int]:
        """True positives, false positives and miscounts (see `Curve`) in some images, with a threshold for each class.

        Args:
            thresholds: (K,) float64.
            images: (N,) bool.
        """
        shown = images[self.image] & self.reaching(thresholds)
        counts = np.bincount(self.image[shown], minlength=len(images))
        miscounted = np.abs(counts - self.positives.sum(axis=1))[images].sum()
        right = int(self.right[shown].sum())
        return right, int(shown.sum()) - right, int(miscounted)


def _rank(values: NDArray[np.int32]) -> NDArray[np.int64]:
    """How many equal values stand before each."""
    order = np.argsort(values, kind="stable")
    rank = np.empty(len(values), dtype=np.int64)
    rank[order] = rank_in_run(values[order])
    return rank


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
