"""The judgement of a trial: tiles, NMS and confidence chosen from raw predictions (decision 4)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tuner.config.trial import Tiles, TrialConfig
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
from tuner.postprocess.swept import Swept


@dataclass(frozen=True, eq=False)
class Judgement:
    """How good a detector is, with the post-processing that suits it.

    Attributes:
        metrics: COCO metrics at the chosen NMS IoU without confidence threshold (which could only lower AP), with the
            operating point.
        curve: Precision, recall and F1 at the chosen NMS IoU for every confidence threshold, all classes together,
            IoU 0.5, counted on all images.
        rows: All suppressions that were tried, with mAP as their score.
        raw: The predictions that the chosen one is of.
    """

    metrics: Metrics
    curve: Curve
    rows: tuple[SweepRow, ...]
    raw: RawPredictions


def judge(
    evaluator: CocoEvaluator,
    seen: Iterable[tuple[Tiles, RawPredictions]],
    config: TrialConfig,
    swept: Swept,
    *,
    criterion: str = "f1",
    criteria: Sequence[str] = (),
) -> Judgement:
    """Choose tiles and NMS by mAP, then the confidence threshold by the criterion, as far as they are to be swept.

    The mAP is that of the chosen suppression: it has been chosen by the same images, from few values that differ
    little. Of equals, the NMS IoU nearest `config.nms_iou` is taken, and then what stands first.

    Args:
        evaluator: Of the split that was predicted on.
        seen: Predictions before suppression, for each way to cut the images; one at a time is held in memory, and the
            best.
        config: Gives `max_detections`, and what is not swept.
        swept: What there is to choose from; NMS IoU in steps (`nms_grid`).
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

    values = nms_grid(*swept.nms_iou) if swept.nms_iou else (config.nms_iou,)
    kinds = swept.nms or (config.nms,)
    rows: list[SweepRow] = []
    chosen: RawPredictions | None = None
    best: SweepRow | None = None
    for tiles, raw in seen:
        rows += sweep(
            raw, evaluator.truth, values, kinds=kinds, tiles=tiles, max_detections=config.max_detections, score=score
        )
        before, best = best, best_row(rows, prefer=config.nms_iou)
        if best is not before:
            chosen = raw
    if best is None or chosen is None:
        raise ValueError("there is nothing to judge")
    if swept.confidence:
        point = best_operating_point(best, criterion, within=swept.confidence)
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
    return Judgement(metrics[rows.index(best)].model_copy(update=found), curve, tuple(rows), chosen)


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
