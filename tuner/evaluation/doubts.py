"""What looks wrong with predictions that are formally valid: coordinates of another kind, classes that are missing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tuner.config.errors import listed
from tuner.data.split import Split
from tuner.models.predictions import Detections, RawPredictions
from tuner.postprocess.matching import MATCH_IOU, TruthIndex

_BEYOND = 0.1
"""A box that reaches out of its image by more than this part of the image's side is not there by rounding."""
_FEW = 0.01
"""A detector that does not clip its boxes may leave so many far out."""
_HARDLY = 0.1
"""With less than this part of the boxes found at any threshold, numbers say nothing about the detector."""


_COCO = "[x, y, width, height] in pixels of the original image"


def doubts(raw: RawPredictions, split: Split, truth: TruthIndex) -> list[str]:
    """Sentences on what a reader should check before believing any number.

    Args:
        raw: Predictions, in pixels of the original images.
        split: The ground truth.
        truth: The same, arranged for matching.
    """
    if not len(raw.scores):
        return ["There are no detections at all."]
    found = []
    sizes = split.sizes[raw.image_index].astype(np.float64)
    boxes = raw.boxes.astype(np.float64)
    beyond = _beyond(boxes, sizes)
    if beyond.mean() > _FEW:
        text = f"{beyond.sum()} of {len(boxes)} boxes reach far out of their image."
        # As if the last two numbers had been corners, not sizes.
        corners = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
        misfits = _beyond(corners, sizes) | (corners[:, 2:] < corners[:, :2]).any(axis=1)
        if misfits.mean() < _FEW:
            text += " They would fit if `bbox` were [x1, y1, x2, y2]: COCO's is [x, y, width, height]."
        else:
            text += " Are they [x, y, width, height] in pixels of the original image, not of a resized one?"
        found.append(text)
    if boxes.max() <= 2.0 < sizes.min():
        found.append("All boxes lie within 2 pixels of the corner: multiply fractions by the image's width and height.")
    present = np.bincount(split.labels[~split.crowd], minlength=len(split.classes))
    named = np.bincount(raw.labels, minlength=len(split.classes))
    absent = [f"{split.classes[k]} ({present[k]} boxes)" for k in np.flatnonzero((present > 0) & (named == 0))]
    if absent:
        found.append(f"Nothing is detected of {listed(absent)}: all of them count as missed.")
    if present.sum():
        share = _found(raw.boxes, raw, truth) / present.sum()
        if share < _HARDLY:
            text = (
                f"Only {share:.1%} of the boxes are found at any threshold. If the detector is better than that, image "
                "ids, category ids or coordinates are not those of this ground truth."
            )
            read = {name: _found(b, raw, truth) / present.sum() for name, b in _otherwise(boxes, sizes).items()}
            likely = max(read, key=lambda name: read[name])
            if read[likely] > max(_HARDLY, 3 * share):
                text += f" {read[likely]:.1%} would be found if `bbox` were {likely}; COCO's is {_COCO}."
            found.append(text)
    return found


def _found(boxes: NDArray[np.floating], raw: RawPredictions, truth: TruthIndex) -> int:
    """Number of boxes to be found that predictions find at any threshold, if they were at these places."""
    placed = Detections(boxes.astype(np.float32), raw.scores, raw.labels, raw.offsets)
    return int((truth.match(placed, (MATCH_IOU,)).taken != 0).sum())


def _otherwise(boxes: NDArray[np.float64], sizes: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """What xyxy boxes would be, had the file's four numbers another meaning than COCO's."""
    first, second = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
    centred = np.concatenate([first - second / 2, first + second / 2], axis=1)
    corners = np.concatenate([first, second], axis=1)
    whole = np.tile(sizes, 2)
    return {
        "[x1, y1, x2, y2] in pixels": corners,
        "[centre x, centre y, width, height] in pixels": centred,
        "[y, x, height, width] in pixels": boxes[:, [1, 0, 3, 2]],
        "[y1, x1, y2, x2] in pixels": corners[:, [1, 0, 3, 2]],
        "[x, y, width, height] as fractions of the image": boxes * whole,
        "[x1, y1, x2, y2] as fractions of the image": corners * whole,
        "[centre x, centre y, width, height] as fractions of the image": centred * whole,
    }


def _beyond(boxes: NDArray[np.float64], sizes: NDArray[np.float64]) -> NDArray[np.bool_]:
    outside: NDArray[np.bool_] = (boxes[:, :2] < -_BEYOND * sizes) | (boxes[:, 2:] > (1 + _BEYOND) * sizes)
    return np.asarray(outside.any(axis=1))
