"""The exact threshold sweep: kinds of NMS × IoU values × all confidence thresholds, from one set of raw predictions.

For each kind and IoU value one suppression and one matching serve every confidence threshold, because greedy matching
serves higher scores first, and because a threshold on the scores that come out of suppression only cuts its result
(`tuner.postprocess.nms_kinds` says why for each kind): the counts at threshold c are running sums over the detections
with a score of at least c. Every distinct score is a candidate. Where suppression leaves scores as they are (greedy,
DIoU), all IoU values moreover share their overlaps, with one another and with the ground truth, so that suppression
and matching run once for all of them. Where it does not (Soft-NMS, fusion), each value is suppressed and matched.

Memory: overlaps are computed in blocks of pairs (`nms_many`, `matching`) or of padded boxes (`nms_kinds`), each some
50 to 200 MB at most, however many boxes an image has. What stays is some 250 bytes for each raw prediction at the peak,
and 18 bytes for each detection of every row that is kept; of an image in tiles the best rows alone are there
(`tuner.trainers.detection.tiling`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tuner.config.trial import WHOLE, NmsKind, Tiles
from tuner.models.predictions import Detections, RawPredictions
from tuner.postprocess.apply import hits_of
from tuner.postprocess.choice import Choice, CrossFit, choose, cross_fit
from tuner.postprocess.curve import Criterion, Hits, point
from tuner.postprocess.matching import MATCH_IOU, TruthIndex
from tuner.postprocess.nms import suppress
from tuner.postprocess.nms_many import KEEPING_SCORES, suppress_many
from tuner.postprocess.operating_point import OperatingPoint
from tuner.postprocess.swept import NMS_RANGE

NMS_STEP = 0.05

Score = Callable[[Detections], float | None]


def nms_grid(low: float, high: float) -> tuple[float, ...]:
    """NMS IoU values from `low` to `high`, both included, at most `NMS_STEP` apart, 64 at most."""
    steps = min(max(1, math.ceil(round((high - low) / NMS_STEP, 6))), 63) if high > low else 0
    return tuple(round(low + (high - low) * i / max(steps, 1), 6) for i in range(steps + 1))


NMS_IOUS = nms_grid(*NMS_RANGE)
"""0.30, 0.35 … 0.80."""


def values_of(kind: NmsKind, nms_ious: Sequence[float]) -> Sequence[float]:
    """The NMS IoU values to try of a kind."""
    return (1.0,) if kind == "none" else nms_ious


@dataclass(frozen=True, eq=False)
class SweepRow:
    """One suppression.

    Attributes:
        nms_iou: Its IoU threshold (of soft-gaussian sigma, of none 1).
        score: What it is judged by beside its hits, such as mAP; None: undefined.
        hits: The detections with no confidence threshold, right and wrong; `hits.curve()` has every threshold.
        nms: Its kind.
        tiles: What the predictions were made from.
    """

    nms_iou: float
    score: float | None
    hits: Hits
    nms: NmsKind = "greedy"
    tiles: Tiles = WHOLE


def sweep(
    raw: RawPredictions,
    truth: TruthIndex,
    nms_ious: Sequence[float] = NMS_IOUS,
    *,
    kinds: Sequence[NmsKind] = ("greedy",),
    tiles: Tiles = WHOLE,
    max_detections: int = 100,
    score: Score = lambda _: None,
    device: str = "cpu",
) -> Iterator[SweepRow]:
    """Judge every kind of NMS and every NMS IoU at every confidence threshold, one row after the other.

    Args:
        raw: Predictions of the split before suppression.
        truth: Its ground truth.
        nms_ious: Values to try, each in 0 … 1, from 1 to 64 of them; soft-gaussian takes them as sigma.
        kinds: Kinds of NMS to try.
        tiles: What the predictions were made from, for the record.
        max_detections: Detections kept for each image, over all classes.
        score: Judges the detections of one NMS IoU without confidence threshold, such as by mAP; called for each row
            once it is asked for.
        device: Where single suppressions compute; of many NMS IoU values at once the CPU does.

    Yields:
        One row for each kind and NMS IoU, in the order given; of none only one.

    Raises:
        DataError: The predictions are not of this split or not finite.
    """
    raw.check(truth.images, truth.classes)
    for kind in kinds:
        values = values_of(kind, nms_ious)
        if kind in KEEPING_SCORES and (kind, len(values)) != ("greedy", 1):  # torchvision's own NMS is faster there
            ordered, kept = suppress_many(raw, values, kind=kind, max_detections=max_detections)
            matches = truth.match_sets(ordered, kept, MATCH_IOU)
            for row, value in enumerate(values):
                hits = Hits.of(matches, truth, kept[row], row)
                yield SweepRow(value, score(ordered.subset(kept[row])), hits, kind, tiles)
        else:
            for value in values:
                found = suppress(raw, value, kind=kind, max_detections=max_detections, device=device)
                yield SweepRow(value, score(found), hits_of(found, truth), kind, tiles)


def best_operating_points(
    rows: Sequence[SweepRow],
    criteria: Sequence[str],
    *,
    classes: Sequence[str] | None = None,
    within: tuple[float, float] = (0.0, 1.0),
) -> dict[str, OperatingPoint | None]:
    """Choose suppression and confidence threshold by each criterion, from all images; say what to expect there.

    Precision, recall and F1 are counted on images that had no part in choosing what they are counted at
    (`tuner.postprocess.choice.cross_fit`). Where the images are too few for that, or a limit is not reached on a part
    of them, they are those of the images that chose, and `f1_spread` is None.

    Args:
        rows: The suppressions to choose from.
        criteria: See `Criterion.parse`.
        classes: Class names, for a threshold of each class; None: one for all.
        within: The lowest and the highest confidence threshold that may be chosen.

    Returns:
        The point of each criterion. None where no threshold serves: nothing to be found, nothing detected within the
        range, or a limit that is never reached.
    """
    candidates, per_class = [row.hits for row in rows], classes is not None
    wanted = [replace(Criterion.parse(criterion), within=within) for criterion in criteria]
    chosen = choose(candidates, wanted, per_class=per_class)
    fitted = cross_fit(candidates, wanted, per_class=per_class) if any(chosen) else [None] * len(wanted)
    return {
        criterion: _expected(rows[choice.candidate], choice, fit, criterion, classes or ()) if choice else None
        for criterion, choice, fit in zip(criteria, chosen, fitted, strict=True)
    }


def best_operating_point(
    row: SweepRow, criterion: str = "f1", *, within: tuple[float, float] = (0.0, 1.0)
) -> OperatingPoint | None:
    """What `best_operating_points` finds for one criterion where the suppression is chosen already."""
    return best_operating_points([row], [criterion], within=within)[criterion]


def _expected(
    row: SweepRow, chosen: Choice, fitted: CrossFit | None, criterion: str, classes: Sequence[str]
) -> OperatingPoint:
    """The operating point of a choice, with what to expect there; thresholds of `classes`, if they are named."""
    here = row.hits.counted(chosen.by_class, np.ones(len(row.hits.positives), dtype=np.bool_))
    expected = fitted.pooled if fitted else point(chosen.confidence, *here[:2], int(row.hits.positives.sum()))
    assert expected is not None  # `choose` found boxes
    named = zip(classes, chosen.by_class.tolist(), strict=False)
    return OperatingPoint(
        tiles=row.tiles,
        nms=row.nms,
        nms_iou=row.nms_iou,
        confidence=chosen.confidence,
        class_confidence={name: value for name, value in named if value != chosen.confidence},
        criterion=criterion,
        precision=expected.precision,
        recall=expected.recall,
        f1=expected.f1,
        f1_spread=fitted.f1_spread if fitted else None,
        count_error=fitted.count_error if fitted else here[2] / len(row.hits.positives),
    )


def operating_point_at(row: SweepRow, confidence: float) -> OperatingPoint | None:
    """The operating point of a threshold that was given, not chosen; None where there is nothing to be found."""
    found = row.hits.curve().at(confidence)
    if found is None:
        return None
    return OperatingPoint(
        tiles=row.tiles,
        nms=row.nms,
        nms_iou=row.nms_iou,
        confidence=confidence,
        criterion="given",
        precision=found.precision,
        recall=found.recall,
        f1=found.f1,
    )
