"""What `tuner evaluate` says beyond COCO's numbers: rates, counts and confusion at an operating point."""

from __future__ import annotations

from pydantic import Field

from tuner.config.base import Frozen
from tuner.data.split import Split
from tuner.evaluation.confusion import confusion_matrix
from tuner.evaluation.counting import CountErrors, count_errors
from tuner.evaluation.rates import GRID, RateRow, Tally, row_at, tally
from tuner.models.predictions import Detections
from tuner.postprocess.apply import class_thresholds, hits_of, shown_of
from tuner.postprocess.matching import TruthIndex
from tuner.postprocess.operating_point import OperatingPoint


class RateTable(Frozen):
    """Precision, recall and F1, one row for each confidence threshold."""

    confidence: tuple[float, ...]
    micro: tuple[RateRow, ...] = Field(description="of all classes' counts together")
    macro: tuple[RateRow, ...] = Field(description="means over the classes that have boxes")
    classes: dict[str, tuple[RateRow, ...]]


class Detail(Frozen):
    """Rates, counts and confusion of a detector on a split; None means undefined."""

    micro: RateRow = Field(description="at the operating point, of all classes' counts together")
    macro: RateRow = Field(description="at the operating point, mean over the classes that have boxes")
    classes: dict[str, RateRow] = Field(description="at the operating point")
    counts: CountErrors = Field(description="at the operating point")
    confusion: tuple[tuple[int, ...], ...] = Field(
        description="at the operating point: rows the true class, columns the detected one, the last of each background"
    )
    curves: RateTable = Field(description="with one confidence threshold for all classes")


def detail(split: Split, truth: TruthIndex, found: Detections, point: OperatingPoint) -> Detail:
    """Look closely at a detector.

    Args:
        split: The ground truth.
        truth: The same, arranged for matching.
        found: Detections after NMS, with no confidence threshold.
        point: The operating point.
    """
    shown = shown_of(found, point, split.classes)
    here = _table(tally(truth, shown, [0.0]), split.classes)
    hits = hits_of(found, truth)
    return Detail(
        micro=here.micro[0],
        macro=here.macro[0],
        classes={name: rows[0] for name, rows in here.classes.items()},
        counts=count_errors(hits, hits.reaching(class_thresholds(point, split.classes)), split.classes),
        confusion=tuple(tuple(row) for row in confusion_matrix(split, shown).tolist()),
        curves=_table(tally(truth, found, GRID), split.classes),
    )


def _table(counted: Tally, classes: tuple[str, ...]) -> RateTable:
    micro, macro, each = counted.micro(), counted.macro(), counted.by_class()
    places = range(len(counted.confidences))
    return RateTable(
        confidence=tuple(counted.confidences.tolist()),
        micro=tuple(row_at(micro, c) for c in places),
        macro=tuple(row_at(macro, c) for c in places),
        classes={name: tuple(row_at(each, (c, k)) for c in places) for k, name in enumerate(classes)},
    )
