"""How well a set of anchors fits boxes: by shape alone, as if anchor and box had the same centre.

The best fit is not the best detector: mAP decides among sets, the fit explains them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuner.config.trial import AnchorSizes
from tuner.data.letterbox import Canvas
from tuner.data.split import Split
from tuner.models.anchors import letterboxed_sizes
from tuner.models.kmeans import RATIO_LIMIT, FloatArray, iou, ratio

MIN_IOU = 0.5
_SIZE_CLASSES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, np.inf)}
_CHUNK = 100_000


@dataclass(frozen=True)
class Fit:
    """The fit to some boxes; None where there are no boxes.

    Attributes:
        boxes: Number of boxes.
        mean_iou: Mean over the boxes of the IoU with the anchor of the highest.
        recall_iou: Share of the boxes with an anchor of IoU 0.5 or more.
        recall_ratio: Share of the boxes with an anchor whose sides differ by less than a factor of 4
            (YOLOv5's best possible recall).
    """

    boxes: int
    mean_iou: float | None
    recall_iou: float | None
    recall_ratio: float | None


@dataclass(frozen=True)
class AnchorFit:
    """The fit to a split.

    Attributes:
        all: To all boxes.
        by_size: To COCO's small, medium and large ones, by area in original pixels.
        by_class: To those of each class, by its name.
    """

    all: Fit
    by_size: dict[str, Fit]
    by_class: dict[str, Fit]


def fit_anchors(anchors: AnchorSizes, split: Split, canvas: Canvas) -> AnchorFit:
    """How well anchors fit the boxes of a split, letterboxed into a canvas; crowd regions do not count.

    Args:
        anchors: (width, height) pairs in pixels of the canvas; levels make no difference.
        split: The boxes.
        canvas: The canvas.
    """
    sizes, labels = letterboxed_sizes(split, canvas)
    areas = split.areas[~split.crowd]
    flat = np.array([pair for level in anchors for pair in level], dtype=np.float64)
    best_iou, best_ratio = _best(sizes, flat)

    def fit(chosen: NDArray[np.bool_]) -> Fit:
        if not chosen.any():
            return Fit(0, None, None, None)
        return Fit(
            boxes=int(chosen.sum()),
            mean_iou=float(best_iou[chosen].mean()),
            recall_iou=float((best_iou[chosen] >= MIN_IOU).mean()),
            recall_ratio=float((best_ratio[chosen] > 1 / RATIO_LIMIT).mean()),
        )

    return AnchorFit(
        all=fit(np.ones(len(sizes), dtype=bool)),
        by_size={name: fit((areas >= low) & (areas < high)) for name, (low, high) in _SIZE_CLASSES.items()},
        by_class={name: fit(labels == label) for label, name in enumerate(split.classes)},
    )


def _best(sizes: FloatArray, anchors: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(M,) highest IoU and highest ratio of each box with any anchor, in chunks that bound the memory."""
    parts = [sizes[start : start + _CHUNK] for start in range(0, len(sizes), _CHUNK)] or [sizes]
    return (
        np.concatenate([iou(part, anchors).max(axis=1) for part in parts]),
        np.concatenate([ratio(part, anchors).max(axis=1) for part in parts]),
    )
