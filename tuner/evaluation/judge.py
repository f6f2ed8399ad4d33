"""The judgement at the end of a trial: NMS IoU and confidence chosen from raw predictions (decision 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tuner.config.trial import TrialConfig
from tuner.evaluation.coco import CocoEvaluator
from tuner.evaluation.counting import count_errors
from tuner.evaluation.metrics import Metrics
from tuner.models.predictions import Detections, RawPredictions
from tuner.postprocess.apply import class_thresholds
from tuner.postprocess.curve import Criterion, Curve
from tuner.postprocess.sweep import (
    SweepRow,
    best_operating_point,
    best_row,
    nms_grid,
    operating_point_at,
    sweep,
)


@dataclass(frozen=True, eq=False)
class Judgement:
    """How good a detector is, with the post-processing that suits it.

    Attributes:
        metrics: COCO metrics at the chosen NMS IoU without confidence threshold (which could only lower AP), with the
            operating point.
        curve: Precision, recall and F1 at the chosen NMS IoU for every confidence threshold, all classes together,
            IoU 0.5, counted on all images.
        rows: All NMS IoU values that were tried, with mAP as their score.
    """

    metrics: Metrics
    curve: Curve
    rows: tuple[SweepRow, ...]


def judge(
    evaluator: CocoEvaluator,
    raw: RawPredictions,
    config: TrialConfig,
    *,
    nms_iou_range: tuple[float, float] | None,
    confidence_range: tuple[float, float] | None,
    criterion: str = "f1",
    criteria: Sequence[str] = (),
) -> Judgement:
    """Choose NMS IoU by mAP, then the confidence threshold by the criterion, as far as they are to be swept.

    The mAP is that at the swept NMS IoU: it has been chosen by the same images, from few values that differ little.

    Args:
        evaluator: Of the split that `raw` was predicted on.
        raw: Predictions before suppression.
        config: Gives `max_detections`, and what is not swept.
        nms_iou_range: Lowest and highest NMS IoU to choose from (`nms_grid`), of equals the one nearest
            `config.nms_iou`; None: take `config.nms_iou`.
        confidence_range: Lowest and highest confidence threshold to choose from; None: take `config.confidence`.
        criterion: See `tuner.postprocess.curve.Criterion.parse`.
        criteria: Further criteria whose best value is wanted, whatever the operating point is chosen by.

    Raises:
        DataError: The predictions are not of this split or not finite.
        ConfigError: The criterion is not known.
    """
    metrics: list[Metrics] = []

    def score(detections: Detections) -> float | None:
        found = evaluator.evaluate(detections)
        metrics.append(found)
        return found.map

    values = nms_grid(*nms_iou_range) if nms_iou_range else (config.nms_iou,)
    rows = sweep(raw, evaluator.truth, values, max_detections=config.max_detections, score=score)
    best = best_row(rows, prefer=config.nms_iou)
    if confidence_range:
        point = best_operating_point(best, criterion, within=confidence_range)
    else:
        point = operating_point_at(best, config.confidence)
    curve = best.hits.curve()
    found: dict[str, object] = {"operating_point": point, "criteria": {c: best_value(curve, c) for c in criteria}}
    if point is not None:
        classes = evaluator.split.classes
        counts = count_errors(
            best.hits, best.hits.scores >= class_thresholds(point, classes)[best.hits.labels], classes
        )
        found |= {"count_mae": counts.mae, "count_bias": counts.bias}
    return Judgement(metrics[rows.index(best)].model_copy(update=found), curve, rows)


def best_value(curve: Curve, criterion: str) -> float | None:
    """The best value of an operating criterion, on the images that it is counted on.

    Returns:
        0 where the limit is never reached; None where there is nothing to be found.
    """
    wanted = Criterion.parse(criterion)
    confidence = curve.best(wanted)
    here = None if confidence is None else curve.at(confidence)
    if here is None:
        return 0.0 if curve.positives else None
    return float(getattr(here, wanted.maximise))
