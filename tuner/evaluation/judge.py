"""The judgement of a trial: tiles, NMS and confidence chosen from raw predictions (decision 4)."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf

from tuner.config.alive import SignOfLife, silent
from tuner.config.objective import AT_OPERATING_POINT, CRITERION, MINIMISED, Objective
from tuner.config.trial import Tiles, TrialConfig
from tuner.evaluation.coco import CocoEvaluator
from tuner.evaluation.counting import count_errors
from tuner.evaluation.metrics import Metrics
from tuner.evaluation.named import value_after_nms
from tuner.models.predictions import Detections, RawPredictions
from tuner.postprocess.apply import class_thresholds
from tuner.postprocess.curve import Criterion, Curve
from tuner.postprocess.operating_point import OperatingPoint
from tuner.postprocess.sweep import SweepRow, best_operating_point, nms_grid, operating_point_at, sweep, values_of
from tuner.postprocess.swept import Swept

_OF_THRESHOLDS = (*AT_OPERATING_POINT, "count_mae")


@dataclass(frozen=True, eq=False)
class Judgement:
    """How good a detector is, with the post-processing that suits it.

    Attributes:
        metrics: COCO metrics at the chosen NMS IoU without confidence threshold (which could only lower AP), with the
            operating point.
        detections: What the chosen suppression leaves, with no confidence threshold.
    """

    metrics: Metrics
    detections: Detections


def judge(
    evaluator: CocoEvaluator,
    seen: Iterable[tuple[Tiles, RawPredictions]],
    config: TrialConfig,
    swept: Swept,
    *,
    objective: str = "map",
    criteria: Sequence[str] = (),
    device: str = "cpu",
    alive: SignOfLife = silent,
) -> Judgement:
    """Choose tiles and NMS by the objective, and the confidence threshold by what the objective says of thresholds.

    Where the objective knows no threshold, that is F1 (`operating_criterion`). The figures of the chosen suppression
    are those of the images that chose it, from few values that differ little. Of equals the one with the higher mAP is
    taken, then the NMS IoU nearest `config.nms_iou`, then what stands first. What an image costs is not measured for
    each way to cut it: such terms of the objective have no part in the choice.

    Args:
        evaluator: Of the split that was predicted on.
        seen: Predictions before suppression, for each way to cut the images; one at a time is held in memory.
        config: Gives `max_detections`, and what is not swept.
        swept: What there is to choose from; NMS IoU in steps (`nms_grid`).
        objective: See `tuner.config.objective.Objective.parse`.
        criteria: Further criteria whose best value is wanted, whatever the operating point is chosen by.
        device: Where suppression computes.
        alive: Called for each suppression that is judged, with its number among those of the same predictions.

    Raises:
        DataError: The predictions are not of this split or not finite.
        ConfigError: The objective is not known.
    """
    wanted = Objective.parse(objective)
    criterion = operating_criterion(wanted)
    asked = sorted({*criteria, *filter(CRITERION.fullmatch, wanted.names)})
    by_thresholds = not set(_OF_THRESHOLDS).isdisjoint(wanted.names)

    def whole(row: SweepRow, found: Metrics) -> Metrics:
        return _at_thresholds(row, found, config, swept, criterion, evaluator.split.classes)

    values = nms_grid(*swept.nms_iou) if swept.nms_iou else (config.nms_iou,)
    kinds = swept.nms or (config.nms,)
    rows = sum(len(values_of(kind, values)) for kind in kinds)
    judged: list[tuple[Metrics, Detections]] = []  # the row that comes next alone: all would fill the memory
    begun = itertools.count()

    def score(detections: Detections) -> float | None:
        alive(next(begun) % rows + 1, rows, "sweeping")
        judged.append((evaluator.evaluate(detections), detections))
        return judged[-1][0].map

    best: tuple[tuple[float, float, float], SweepRow, Metrics, Detections] | None = None
    for tiles, raw in seen:
        for row in sweep(
            raw,
            evaluator.truth,
            values,
            kinds=kinds,
            tiles=tiles,
            max_detections=config.max_detections,
            score=score,
            device=device,
        ):
            coco, detections = judged.pop()
            curve = row.hits.curve() if asked else None
            reached = {c: best_value(curve, c, swept.confidence or config.confidence) for c in asked} if curve else {}
            found = coco.model_copy(update={"criteria": reached})
            value = value_after_nms(wanted, whole(row, found) if by_thresholds else found)
            rank = (
                -inf if value is None else value,
                -inf if row.score is None else row.score,
                -abs(row.nms_iou - config.nms_iou),
            )
            if best is None or rank > best[0]:
                best = rank, row, found, detections
    if best is None:
        raise ValueError("there is nothing to judge")
    _, row, found, detections = best
    return Judgement(whole(row, found), detections)


def operating_criterion(objective: Objective) -> str:
    """What the confidence threshold is chosen by: the first term of the objective that says so, else F1."""
    for name in objective.names:
        if CRITERION.fullmatch(name):
            return name
        if name in _OF_THRESHOLDS:
            return "count" if name in MINIMISED else "f1"
    return "f1"


def _at_thresholds(
    row: SweepRow, found: Metrics, config: TrialConfig, swept: Swept, criterion: str, classes: tuple[str, ...]
) -> Metrics:
    """The metrics with operating point and counts."""
    point = _operating_point(row, config, swept, criterion)
    if point is None:
        return found
    counts = count_errors(row.hits, row.hits.reaching(class_thresholds(point, classes)), classes)
    error = counts.mae if point.count_error is None else point.count_error
    return found.model_copy(update={"operating_point": point, "count_mae": error, "count_bias": counts.bias})


def _operating_point(row: SweepRow, config: TrialConfig, swept: Swept, criterion: str) -> OperatingPoint | None:
    """The point of one suppression; None only where there is nothing to be found.

    Where no threshold reaches the criterion's limit, F1 chooses, and where nothing is detected at all, the highest
    threshold stands for all.
    """
    if swept.confidence is None:
        return operating_point_at(row, config.confidence)
    for wanted in dict.fromkeys((criterion, "f1")):
        point = best_operating_point(row, wanted, within=swept.confidence)
        if point is not None:
            return point
    return operating_point_at(row, swept.confidence[1])


def best_value(curve: Curve, criterion: str, confidence: tuple[float, float] | float = (0.0, 1.0)) -> float | None:
    """The best value of an operating criterion, on the images that it is counted on.

    Args:
        curve: The counts.
        criterion: What is maximised, with its limit.
        confidence: The thresholds that production may have, from the lowest to the highest, or the one that it has.

    Returns:
        0 where the limit is never reached; None where there is nothing to be found.
    """
    wanted = Criterion.parse(criterion)
    if isinstance(confidence, tuple):
        chosen = curve.best(replace(wanted, within=confidence))
        here = None if chosen is None else curve.at(chosen)
    else:
        here = curve.at(confidence)
        if here and wanted.subject_to and getattr(here, wanted.subject_to) < wanted.least:
            here = None
    if here is None:
        return 0.0 if curve.positives else None
    return float(getattr(here, wanted.maximise))
