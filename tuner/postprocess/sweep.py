"""The exact threshold sweep: NMS IoU values × all confidence thresholds, from one set of raw predictions.

Greedy NMS lets only higher scores suppress lower ones, and greedy matching serves higher scores first. So for each
NMS IoU one suppression and one matching serve every confidence threshold: the counts at threshold c are running sums
over the detections with a score of at least c. Every distinct score is a candidate. And all NMS IoU values share their
overlaps, with one another and with the ground truth, so that suppression and matching run once for all of them.

Memory: overlaps are computed in blocks of images or detections, some 200 MB at most. What stays is about 100 bytes for
each raw prediction, and 14 bytes for each detection and NMS IoU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tuner.models.predictions import Detections, RawPredictions
from tuner.postprocess.curve import Criterion, Hits, cross_fit
from tuner.postprocess.matching import TruthIndex
from tuner.postprocess.nms_many import suppress_many
from tuner.postprocess.operating_point import OperatingPoint

NMS_IOUS: tuple[float, ...] = tuple(round(0.3 + 0.05 * i, 2) for i in range(11))
"""0.30, 0.35 … 0.80: the range that `search_spaces/default.yaml` gives to `nms_iou`."""

MATCH_IOU = 0.5
"""IoU with the ground truth at which a detection is right, for precision, recall and F1."""

Score = Callable[[Detections], float | None]


@dataclass(frozen=True, eq=False)
class SweepRow:
    """One NMS IoU value.

    Attributes:
        nms_iou: The value.
        score: What `Sweep.best` compares, such as mAP; None: undefined.
        hits: The detections with no confidence threshold, right and wrong; `hits.curve()` has every threshold.
    """

    nms_iou: float
    score: float | None
    hits: Hits


def sweep(
    raw: RawPredictions,
    truth: TruthIndex,
    nms_ious: Sequence[float] = NMS_IOUS,
    *,
    max_detections: int = 100,
    score: Score = lambda _: None,
) -> tuple[SweepRow, ...]:
    """Judge every NMS IoU at every confidence threshold.

    Args:
        raw: Predictions of the split before suppression.
        truth: Its ground truth.
        nms_ious: Values to try, each in 0 … 1, from 1 to 64 of them.
        max_detections: Detections kept for each image, over all classes.
        score: Judges the detections of one NMS IoU without confidence threshold, such as by mAP.

    Returns:
        One row for each NMS IoU, in the order given.

    Raises:
        DataError: The predictions are not of this split or not finite.
    """
    raw.check(truth.images, truth.classes)
    ordered, kept = suppress_many(raw, nms_ious, max_detections=max_detections)
    matches = truth.match_sets(ordered, kept, MATCH_IOU)
    return tuple(
        SweepRow(
            nms_iou=nms_iou,
            score=score(ordered.subset(kept[row])),
            hits=Hits.of(matches, truth, kept[row], row),
        )
        for row, nms_iou in enumerate(nms_ious)
    )


def best_row(rows: Sequence[SweepRow], prefer: float) -> SweepRow:
    """The row of the highest score; of equals (or if none is defined) the one with the NMS IoU nearest `prefer`."""
    return max(rows, key=lambda row: (-1.0 if row.score is None else row.score, -abs(row.nms_iou - prefer)))


def best_operating_point(row: SweepRow, criterion: str = "f1", *, folds: int = 5) -> OperatingPoint | None:
    """Choose the confidence threshold, from all images; say what to expect of it, by cross-fitting.

    Precision, recall and F1 are counted on images that had no part in choosing the threshold they are counted at
    (`tuner.postprocess.curve.cross_fit`). Where the split is too small for that, they are those of the images that the
    threshold was chosen on, and `f1_spread` is None.

    Args:
        row: The chosen NMS IoU.
        criterion: See `Criterion.parse`.
        folds: Number of folds of the images.

    Returns:
        None where no threshold serves: nothing to be found, nothing detected, or a limit that is never reached.
    """
    wanted = Criterion.parse(criterion)
    curve = row.hits.curve()
    confidence = curve.best(wanted)
    if confidence is None:
        return None
    fitted = cross_fit(row.hits, wanted, folds=folds)
    expected = fitted.pooled if fitted else curve.at(confidence)
    assert expected is not None  # `best` found boxes
    return OperatingPoint(
        nms_iou=row.nms_iou,
        confidence=confidence,
        criterion=criterion,
        precision=expected.precision,
        recall=expected.recall,
        f1=expected.f1,
        f1_spread=fitted.f1_spread if fitted else None,
    )


def operating_point_at(row: SweepRow, confidence: float) -> OperatingPoint | None:
    """The operating point of a threshold that was given, not chosen; None where there is nothing to be found."""
    found = row.hits.curve().at(confidence)
    if found is None:
        return None
    return OperatingPoint(
        nms_iou=row.nms_iou,
        confidence=confidence,
        criterion="given",
        precision=found.precision,
        recall=found.recall,
        f1=found.f1,
    )
