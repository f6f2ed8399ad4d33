"""Boxes that are there twice, as careless merges and exports leave them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from tuner.data.split import Split

_SAME = 0.9
"""IoU of two boxes that are taken to be drawn around one object: above all values of NMS IoU that are tried."""
FEW = 0.03
"""Share of a split's boxes up to which a doubt about them is not worth a word."""


def copies_of(split: Split) -> NDArray[np.bool_]:
    """(M,) bool: of M boxes those that stand before already, with the same image and class; crowd regions are none."""
    objects = np.flatnonzero(~split.crowd)
    rows = np.column_stack([split.image_index, split.labels, split.boxes])[objects]
    _, first = np.unique(rows, axis=0, return_index=True)
    copies = ~split.crowd
    copies[objects[first]] = False
    return copies


def nearly_doubled_notes(val: Split) -> list[str]:
    """A sentence where many objects to be found are nearly at the place of another, as two annotators draw them."""
    near = np.zeros(len(val.boxes), np.bool_)
    objects = np.flatnonzero(~val.crowd)
    group = (val.image_index * len(val.classes) + val.labels)[objects]
    order = np.argsort(group, kind="stable")
    ends = np.flatnonzero(np.diff(group[order])) + 1
    for members in np.split(objects[order], ends):
        near[members] = _covered(val.boxes[members])
    share = near.sum() / max(1, len(objects))
    if share <= FEW:
        return []
    first = val.file_names[val.image_index[int(near.argmax())]]
    return [
        f"{near.sum()} of {len(objects)} objects of val overlap one before them, of their class, by an IoU above "
        f"{_SAME}, first in {first}: of such a pair NMS leaves one detection, so that the other counts as missed; "
        "remove what was drawn twice"
    ]


def _covered(boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(P,) bool: of P boxes, COCO xywh, those that overlap one before them by an IoU above `_SAME`."""
    start, end = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    found = np.zeros(len(boxes), np.bool_)
    areas = boxes[:, 2] * boxes[:, 3]
    for i in range(1, len(boxes)):  # a table of pairs would take gigabytes where an image has thousands of boxes
        sides = np.minimum(end[:i], end[i]) - np.maximum(start[:i], start[i])
        shared = np.maximum(sides, 0).prod(axis=1)
        found[i] = bool((shared > _SAME * (areas[:i] + areas[i] - shared)).any())
    return found


def doubled_notes(splits: Iterable[Split]) -> list[str]:
    """A sentence on each split with boxes that are there twice."""
    notes = []
    for split in splits:
        copies = np.flatnonzero(copies_of(split))
        if copies.size:
            effect = "these objects weigh twice" if split.name == "train" else "one of each pair counts as missed"
            notes.append(
                f"{copies.size} boxes of {split.name} are there twice, with the same image and class, first in "
                f"{split.file_names[split.image_index[copies[0]]]}: {effect}; remove the copies, or have them left out "
                "by `on_bad_boxes: repair` (--on-bad-boxes repair)"
            )
    return notes
