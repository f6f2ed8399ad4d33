"""Non-maximum suppression of a whole split, as production does it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from tuner.config.trial import NmsKind
from tuner.models.predictions import Detections, RawPredictions
from tuner.postprocess.apply import class_thresholds, shown_of
from tuner.postprocess.nms_kinds import KINDS
from tuner.postprocess.operating_point import OperatingPoint
from tuner.postprocess.pairs import blocks

MOVING: frozenset[NmsKind] = frozenset({"wbf", "greedy-voting"})
"""Kinds in which boxes move, by all the others around them."""
_BOXES_AT_ONCE = 1 << 20
"""Boxes on the device at a time, which take some 120 bytes each: those of a large split would fill a GPU's memory."""


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
    every = list(blocks(np.diff(raw.offsets), _BOXES_AT_ONCE)) or [slice(0, 0)]
    parts = [_kept(raw, images, nms_iou, kind, max_detections, device) for images in every]
    source, boxes, scores, counts = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    found = Detections(
        boxes=boxes,
        scores=scores,
        labels=raw.labels[source],
        offsets=np.concatenate(([0], np.cumsum(counts))),
        stated=None if raw.stated is None or kind in MOVING else raw.stated[source],
    )
    return found.subset(found.scores.astype(np.float64) >= confidence)


def _kept(
    raw: RawPredictions, images: slice, nms_iou: float, kind: NmsKind, max_detections: int, device: torch.device | str
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.floating], NDArray[np.int64]]:
    """What is kept of some images: rows of `raw` (Q,), boxes (Q, 4), scores (Q,), and how many of each image."""
    offsets = raw.offsets[images.start : images.stop + 1]
    here = slice(offsets[0], offsets[-1])
    columns = (raw.boxes[here], raw.scores[here], raw.labels[here], offsets - offsets[0])
    boxes, scores, labels, bounds = (torch.from_numpy(array).to(device) for array in columns)
    kept = KINDS[kind](boxes, scores, labels, bounds, nms_iou, max_detections)
    return (
        kept.source.cpu().numpy() + offsets[0],
        kept.boxes.float().cpu().numpy(),
        kept.scores.to(scores.dtype).cpu().numpy(),
        kept.offsets.diff().cpu().numpy(),
    )


def shown_at(
    raw: RawPredictions, point: OperatingPoint, classes: Sequence[str], *, max_detections: int = 100
) -> Detections:
    """What production shows at an operating point: suppressed, and cut at each class's threshold.

    Raises:
        DataError: See `suppress`.
    """
    least = float(class_thresholds(point, classes).min(initial=point.confidence))
    found = suppress(raw, point.nms_iou, kind=point.nms, max_detections=max_detections, confidence=least)
    return shown_of(found, point, classes)
