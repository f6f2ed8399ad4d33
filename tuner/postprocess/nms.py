"""Non-maximum suppression of a whole split, as production does it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from tuner.config.trial import NmsKind
from tuner.models.predictions import Detections, RawPredictions
from tuner.postprocess.apply import class_thresholds, is_shown
from tuner.postprocess.nms_kinds import KINDS
from tuner.postprocess.operating_point import OperatingPoint

MOVING: frozenset[NmsKind] = frozenset({"wbf", "greedy-voting"})
"""Kinds in which boxes move, by all the others around them."""


def suppress(
    raw: RawPredictions,
    nms_iou: float,
    *,
    kind: NmsKind = "greedy",
    max_detections: int = 100,
    confidence: float = 0.0,
    device: torch.device | str = "cpu",
) -> Detections:
    """Suppress within each image: what a confidence threshold and a cap would show in production.

    `confidence` c gives exactly those detections of `confidence` 0 that score at least c
    (`tuner.postprocess.nms_kinds` says why for each kind).

    Args:
        raw: Predictions of a split.
        nms_iou: IoU threshold; of soft-gaussian sigma; of none without meaning.
        kind: What to do with boxes that overlap.
        max_detections: Detections kept for each image, over all classes, those of highest score.
        confidence: Detections with a lower score, after suppression, are left out.
        device: Where to compute.

    Returns:
        Detections by descending score within each image; ties in the order of `raw`.

    Raises:
        DataError: Boxes or scores are NaN or infinite (NaN boxes would survive any NMS).
    """
    raw.check(len(raw.offsets) - 1, int(raw.labels.max(initial=0)) + 1)
    if kind not in MOVING:  # fewer boxes to look at, with the same result
        raw = raw.subset(raw.scores.astype(np.float64) >= confidence)
    boxes, scores, labels, offsets = (
        torch.from_numpy(array).to(device) for array in (raw.boxes, raw.scores, raw.labels, raw.offsets)
    )
    kept = KINDS[kind](boxes, scores, labels, offsets, nms_iou, max_detections)
    source = kept.source.cpu().numpy()
    found = Detections(
        boxes=kept.boxes.float().cpu().numpy(),
        scores=kept.scores.to(scores.dtype).cpu().numpy(),
        labels=raw.labels[source],
        offsets=kept.offsets.cpu().numpy(),
        stated=None if raw.stated is None or kind in MOVING else raw.stated[source],
    )
    return found.subset(found.scores.astype(np.float64) >= confidence)


def shown_at(
    raw: RawPredictions, point: OperatingPoint, classes: Sequence[str], *, max_detections: int = 100
) -> Detections:
    """What production shows at an operating point: suppressed, and cut at each class's threshold.

    Raises:
        DataError: See `suppress`.
    """
    least = float(class_thresholds(point, classes).min(initial=point.confidence))
    found = suppress(raw, point.nms_iou, kind=point.nms, max_detections=max_detections, confidence=least)
    return found.subset(is_shown(found, point, classes))
