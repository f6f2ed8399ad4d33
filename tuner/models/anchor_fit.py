"""How well a set of anchors fits boxes: by shape alone, as if anchor and box had the same centre.

The best fit is not the best detector: mAP decides among sets, the fit explains them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
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
    best_iou, best_ratio = _best(iou, sizes, anchors), _best(ratio, sizes, anchors)

    def fit(chosen: NDArray[np.bool_]) -> Fit:
        if not chosen.any():
            return Fit(0, None, None, None)
        mean, recall = _mean_and_recall(best_iou[chosen])
        return Fit(
            boxes=int(chosen.sum()),
            mean_iou=mean,
            recall_iou=recall,
            recall_ratio=float((best_ratio[chosen] > 1 / RATIO_LIMIT).mean()),
        )

    return AnchorFit(
        all=fit(np.ones(len(sizes), dtype=bool)),
        by_size={name: fit(chosen) for name, chosen in of_sizes(split).items()},
        by_class={name: fit(labels == label) for label, name in enumerate(split.classes)},
    )


def of_sizes(split: Split) -> dict[str, NDArray[np.bool_]]:
    """Which boxes are small, medium and large to COCO, by area in original pixels; crowd regions left out."""
    areas = split.areas[~split.crowd]
    return {name: (areas >= low) & (areas < high) for name, (low, high) in _SIZE_CLASSES.items()}


def iou_fits(anchors: AnchorSizes, sizes: FloatArray, groups: Iterable[NDArray[np.bool_]]) -> list[float]:
    """`Fit.mean_iou` and `Fit.recall_iou` of each group that has boxes, without the work that the rest of a fit is.

    Args:
        anchors: As for `fit_anchors`.
        sizes: (M, 2) (width, height) of the boxes in pixels of the canvas (`letterboxed_sizes`).
        groups: (M,) bool each, the boxes of a group (`of_sizes`).
    """
    best = _best(iou, sizes, anchors)
    return [value for chosen in groups if chosen.any() for value in _mean_and_recall(best[chosen])]


def _mean_and_recall(best_iou: FloatArray) -> tuple[float, float]:
    return float(best_iou.mean()), float((best_iou >= MIN_IOU).mean())


def _best(
    likeness: Callable[[FloatArray, FloatArray], FloatArray], sizes: FloatArray, anchors: AnchorSizes
) -> FloatArray:
    """(M,) highest likeness of each box with any anchor, in chunks that bound the memory."""
    flat = np.array([pair for level in anchors for pair in level], dtype=np.float64)
    parts = [sizes[start : start + _CHUNK] for start in range(0, len(sizes), _CHUNK)] or [sizes]
    return np.concatenate([likeness(part, flat).max(axis=1) for part in parts])
