"""Non-maximum suppression of a whole split, without mixing classes and without losing precision."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import nms

from tuner.models.predictions import Detections, RawPredictions


def suppress(
    raw: RawPredictions,
    nms_iou: float,
    *,
    max_detections: int = 100,
    confidence: float = 0.0,
    class_agnostic: bool = False,
) -> Detections:
    """Greedy NMS within each image: what a confidence threshold and a cap would show in production.

    Because only higher scores suppress lower ones, `confidence` c gives exactly those detections of
    `confidence` 0 that score at least c (decision 4 of the design).

    Args:
        raw: Predictions of a split.
        nms_iou: A box goes when its IoU with a kept box of higher score (of equal score: lower index)
            is above this; 1.0 switches suppression off.
        max_detections: Detections kept for each image, over all classes, those of highest score.
        confidence: Boxes with a lower score are left out.
        class_agnostic: Whether boxes suppress those of other classes too.

    Returns:
        Detections by descending score within each image; ties in the order of `raw`.

    Raises:
        DataError: Boxes or scores are NaN or infinite (NaN boxes would survive any NMS).
    """
    images = len(raw.offsets) - 1
    raw.check(images, int(raw.labels.max(initial=0)) + 1)
    eligible = raw.scores.astype(np.float64) >= confidence
    boxes = torch.from_numpy(raw.boxes[eligible])
    scores = torch.from_numpy(raw.scores[eligible]).double()
    labels = torch.from_numpy(raw.labels[eligible])
    spread = boxes.double() if class_agnostic else _apart(boxes, labels)
    ends = np.concatenate([[0], np.cumsum(eligible)])[raw.offsets]
    rows = [
        start + nms(spread[start:stop], scores[start:stop], nms_iou)[:max_detections]
        for start, stop in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)
    ]
    kept = np.flatnonzero(eligible)[torch.cat(rows).numpy()] if rows else np.empty(0, dtype=np.int64)
    counts = np.array([len(r) for r in rows], dtype=np.int64)
    return Detections(
        boxes=raw.boxes[kept],
        scores=raw.scores[kept],
        labels=raw.labels[kept],
        offsets=np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)]),
    )


def greedy_nms(boxes: Tensor, scores: Tensor, groups: Tensor, iou: float) -> Tensor:
    """Greedy NMS in which only boxes of one group (class, or image and class) suppress each other.

    Args:
        boxes: (P, 4) float, xyxy in pixels, on any device.
        scores: (P,) float.
        groups: (P,) int64, at least 0.
        iou: A box goes when its IoU with a kept box of its group is above this.

    Returns:
        (Q,) int64, indices of the kept boxes by descending score, ties by ascending index.
    """
    kept: Tensor = nms(_apart(boxes, groups), scores.double(), iou)
    return kept


def _apart(boxes: Tensor, groups: Tensor) -> Tensor:
    """Boxes in float64, each group moved to a place of its own.

    Steps are a power of two, so that the sum of a float32 coordinate and an offset is exact in float64's 53 bits (for
    all but coordinates next to 0, which lose less than 1e-9 pixels). In float32, as in torchvision's `batched_nms`,
    80 classes in an image of 2,000 pixels would round to 1/64 pixel.
    """
    wide = boxes.double()
    if not len(wide):
        return wide
    low, high = torch.aminmax(wide)
    step = 2.0 ** torch.ceil(torch.log2(high - low + 2.0))
    return wide + (groups * step)[:, None]
