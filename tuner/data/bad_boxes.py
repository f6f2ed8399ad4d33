"""Boxes outside their image, without area or there twice: found, put into words a user can act on, and repaired."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tuner.config.base import Frozen
from tuner.config.errors import SHOWN
from tuner.data.doubled import copies_of
from tuner.data.split import Split

TOLERANCE = 0.5
"""Pixels that a box may reach over the image's edge without being reported: annotation tools round."""


class BoxReport(Frozen):
    """What was found wrong with the boxes of one split, and what was done about it.

    Attributes:
        split: Name of the split.
        boxes: Boxes in the annotation file.
        outside: Boxes that reach over the image's edge by more than `TOLERANCE`.
        without_area: Boxes whose width or height in the file is zero or negative.
        clipped: Boxes that were cut at the edge and kept (repair only).
        doubled: Boxes that stand before already, with the same image and class.
        dropped: Boxes that were left out: without area, in the file or after clipping, or doubled (repair only).
        examples: The first bad boxes, each in words.
        from_polygons: Boxes that the file does not have, made around its polygons.
        rotated: Boxes that the file says were turned, and has as they were before.
        corners: Whether there are bad boxes and all boxes would fit, were they [x1, y1, x2, y2].
    """

    split: str
    boxes: int
    outside: int = 0
    without_area: int = 0
    doubled: int = 0
    clipped: int = 0
    dropped: int = 0
    examples: tuple[str, ...] = ()
    from_polygons: int = 0
    rotated: int = 0
    corners: bool = False

    @property
    def clean(self) -> bool:
        """Whether every box has an area, lies in its image and is there once."""
        return self.outside == self.without_area == self.doubled == 0

    def text(self) -> str:
        """The report as one or more lines for the terminal."""
        if self.clean:
            return f"{self.split}: {self.boxes} boxes, all with an area and inside their images"
        lines = (
            f"{self.split}: of {self.boxes} boxes {self.outside} outside the image, {self.without_area} without area"
        )
        if self.doubled:
            lines += f", {self.doubled} there twice"
        if self.clipped or self.dropped:
            lines += f"; {self.clipped} clipped, {self.dropped} dropped"
        doubt = ["  All would fit if `bbox` were [x1, y1, x2, y2]: COCO's is [x, y, width, height]."]
        return "\n".join([lines, *(f"  {example}" for example in self.examples), *doubt[: self.corners]])


def check_boxes(
    split: Split, policy: Literal["refuse", "repair"]
) -> tuple[NDArray[np.float64], NDArray[np.bool_], BoxReport]:
    """Find boxes outside their image, without area or there twice; repair or drop them where that is asked for.

    Args:
        split: M boxes.
        policy: "refuse" changes nothing (the caller raises), "repair" clips and drops.

    Returns:
        Boxes (M, 4), of which only the bad ones differ; (M,) bool, which to keep; the report.
    """
    boxes, image_index = split.boxes, split.image_index
    sizes = split.sizes[image_index]
    with np.errstate(over="ignore"):  # then it ends outside, which is told below
        ends = boxes[:, :2] + boxes[:, 2:]
    without_area = np.asarray((boxes[:, 2:] <= 0).any(axis=1), np.bool_)
    beyond = (boxes[:, :2] < -TOLERANCE) | (ends > sizes + TOLERANCE)
    outside = np.asarray(beyond.any(axis=1), np.bool_) & ~without_area
    doubled = ~without_area & copies_of(split)
    bad = np.flatnonzero(without_area | outside)
    repaired: NDArray[np.float64] = boxes
    keep: NDArray[np.bool_] = np.ones(len(boxes), np.bool_)
    if policy == "repair" and bad.size:
        start = np.clip(boxes[outside, :2], 0, sizes[outside])
        clipped = np.concatenate([start, np.clip(ends[outside], 0, sizes[outside]) - start], axis=1)
        repaired = boxes.copy()
        repaired[outside] = clipped
        keep = np.asarray((repaired[:, 2:] > 0).all(axis=1), np.bool_)
    if policy == "repair":
        keep &= ~doubled
    examples = []
    for i in np.flatnonzero(without_area | outside | doubled)[:SHOWN].tolist():
        name = f"annotation {split.annotation_ids[i]} of {split.file_names[image_index[i]]}"
        fault = "has no area" if without_area[i] else "is outside" if outside[i] else "is there twice"
        width, height = sizes[i].tolist()
        bbox = ", ".join(f"{value:g}" for value in boxes[i])
        examples.append(f"{name}: bbox [{bbox}] {fault} (image {width} x {height})")
    repairing = policy == "repair"
    report = BoxReport(
        split=split.name,
        boxes=len(boxes),
        outside=int(outside.sum()),
        without_area=int(without_area.sum()),
        doubled=int(doubled.sum()),
        clipped=int((outside & keep).sum()) if repairing else 0,
        dropped=int((~keep).sum()),
        examples=tuple(examples),
        corners=bool(bad.size) and bool(((boxes[:, 2:] > boxes[:, :2]) & (boxes[:, 2:] <= sizes + TOLERANCE)).all()),
    )
    return repaired, keep, report
