"""Which detection found which box, image by image: what confusion and error analysis need beyond right and wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuner.data.split import Split
from tuner.models.predictions import Detections
from tuner.postprocess.matching import MATCH_IOU
from tuner.postprocess.pairs import pair_iou


@dataclass(frozen=True, eq=False)
class PairedImage:
    """One image's D detections (by descending score) and its G boxes that count (no crowds).

    Attributes:
        detections: (D,) int64, where they stand in the `Detections`.
        boxes: (G,) int64, where they stand in the `Split`.
        iou: (D, G) float64.
        same: (D, G) bool, whether the classes agree.
        match: (D,) int64, column of the box that a detection found by COCO's rule; -1: none.
        ignored: (D,) bool, detections without a match that lie on a crowd of their class.
    """

    detections: NDArray[np.int64]
    boxes: NDArray[np.int64]
    iou: NDArray[np.float64]
    same: NDArray[np.bool_]
    match: NDArray[np.int64]
    ignored: NDArray[np.bool_]


def paired_images(split: Split, detections: Detections) -> Iterator[PairedImage]:
    """Match the detections of each image at `MATCH_IOU`, in the order of the split.

    Args:
        split: The ground truth.
        detections: Of the same split, xyxy in original pixels.

    Raises:
        DataError: The detections are not of this split or not finite.
    """
    detections.check(len(split), len(split.classes))
    found = detections.xywh(slice(None))
    order = np.lexsort((-detections.scores.astype(np.float64), detections.image_index))
    for i in range(len(split)):
        rows = order[detections.offsets[i] : detections.offsets[i + 1]]
        boxes = np.arange(split.offsets[i], split.offsets[i + 1])
        crowds, boxes = boxes[split.crowd[boxes]], boxes[~split.crowd[boxes]]
        iou = overlaps(found[rows], split.boxes[boxes])
        same = detections.labels[rows][:, None] == split.labels[boxes][None]
        match = assign(np.where(same, iou, 0.0), MATCH_IOU)
        on_crowd = overlaps(found[rows], split.boxes[crowds], crowd=True) >= MATCH_IOU
        on_crowd &= detections.labels[rows][:, None] == split.labels[crowds][None]
        yield PairedImage(rows, boxes, iou, same, match, on_crowd.any(axis=1) & (match < 0))


def assign(iou: NDArray[np.float64], threshold: float, free: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    """Greedy assignment: row by row, each takes the free column of highest IoU; of equals the last, as COCO does.

    Args:
        iou: (D, G).
        threshold: Least IoU.
        free: (G,) bool, the columns that may be taken; None: all.

    Returns:
        (D,) int64, the column of each row; -1: none.
    """
    match = np.full(len(iou), -1, dtype=np.int64)
    left = np.ones(iou.shape[1], dtype=np.bool_) if free is None else free.copy()
    for row in np.flatnonzero((iou >= threshold).any(axis=1)):
        able = np.where(left, iou[row], -1.0)
        column = len(able) - 1 - int(np.argmax(able[::-1]))
        if able[column] >= threshold:
            match[row] = column
            left[column] = False
    return match


def overlaps(a: NDArray[np.float64], b: NDArray[np.float64], *, crowd: bool = False) -> NDArray[np.float64]:
    """(D, G) IoU of (D, 4) and (G, 4) xywh boxes; with crowds `b`: the share of each `a` that lies in it."""
    return pair_iou(a.T[:, :, None], b.T[:, None], crowd)
