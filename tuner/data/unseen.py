"""Objects that letterboxing makes too small to be trained on."""

from __future__ import annotations

from tuner.config.errors import DataError
from tuner.data.letterbox import canvas_for, placements
from tuner.data.split import Split

MIN_SIDE = 1.0
"""A box of which less than so many pixels are left in width or height is dropped from a training sample."""


def unseen_notes(train: Split, image_size: int) -> list[str]:
    """A sentence where training leaves out objects because they are smaller than `MIN_SIDE` on the canvas.

    Args:
        train: The training split.
        image_size: Longer side of the canvas in pixels.

    Raises:
        DataError: All objects are.
    """
    scale = placements(train.sizes, canvas_for(train.sizes, image_size))[train.image_index, 0]
    sides = (train.boxes[:, 2:] * scale[:, None])[~train.crowd]
    small = int((sides < MIN_SIDE).any(axis=1).sum())
    if not small:
        return []
    if small == len(sides):
        raise DataError(
            f"all {small} boxes of {train.name} are below {MIN_SIDE:g} px in width or height at image size "
            f"{image_size}, so there is nothing to train on",
            hint="Cut the images into tiles, with their boxes, or set a larger `image_size` under `defaults` in a "
            "study file (`tuner keys` has all that one may say).",
        )
    return [
        f"{small} of {len(sides)} boxes of {train.name} are below {MIN_SIDE:g} px in width or height at image size "
        f"{image_size} and are left out of training; a larger `image_size` shows them, or images cut into tiles"
    ]
