"""The judgement at the end of a trial: NMS IoU and confidence chosen from raw predictions (decision 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tuner.config.trial import TrialConfig
from tuner.evaluation.coco import CocoEvaluator
from tuner.evaluation.metrics import Metrics
from tuner.models.predictions import Detections, RawPredictions
from tuner.postprocess.curve import Curve
from tuner.postprocess.sweep import (
    NMS_IOUS,
    SweepRow,
    best_operating_point,
    best_row,
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
    sweep_nms: bool,
    sweep_confidence: bool,
    nms_ious: Sequence[float] = NMS_IOUS,
    criterion: str = "f1",
) -> Judgement:
    """Choose NMS IoU by mAP, then the confidence threshold by the criterion, as far as they are to be swept.

    The mAP is that at the swept NMS IoU: it has been chosen by the same images, from few values that differ little.

    Args:
        evaluator: Of the split that `raw` was predicted on.
        raw: Predictions before suppression.
        config: Gives `max_detections`, and what is not swept.
        sweep_nms: Whether to choose among `nms_ious`, or to take `config.nms_iou`.
        sweep_confidence: Whether to choose the threshold, or to take `config.confidence`.
        nms_ious: Values to choose from; of equals the one nearest `config.nms_iou` is taken.
        criterion: See `tuner.postprocess.curve.Criterion.parse`.

    Raises:
        DataError: The predictions are not of this split or not finite.
        ConfigError: The criterion is not known.
    """
    metrics: list[Metrics] = []

    def score(detections: Detections) -> float | None:
        found = evaluator.evaluate(detections)
        metrics.append(found)
        return found.map

    values = nms_ious if sweep_nms else (config.nms_iou,)
    rows = sweep(raw, evaluator.truth, values, max_detections=config.max_detections, score=score)
    best = best_row(rows, prefer=config.nms_iou)
    point = best_operating_point(best, criterion) if sweep_confidence else operating_point_at(best, config.confidence)
    chosen = metrics[rows.index(best)]
    return Judgement(chosen.model_copy(update={"operating_point": point}), best.hits.curve(), rows)
