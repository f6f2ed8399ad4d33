"""Boxes that are there twice, as careless merges and exports leave them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from tuner.data.split import Split


def copies_of(
    image_index: NDArray[np.int64], labels: NDArray[np.int64], boxes: NDArray[np.float64], crowd: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """(M,) bool: of M boxes those that stand before already, with the same image and class; crowd regions are none."""
    objects = np.flatnonzero(~crowd)
    rows = np.column_stack([image_index, labels, boxes])[objects]
    _, first = np.unique(rows, axis=0, return_index=True)
    copies = ~crowd
    copies[objects[first]] = False
    return copies


def doubled_notes(splits: Iterable[Split]) -> list[str]:
    """A sentence on each split with boxes that are there twice."""
    notes = []
    for split in splits:
        copies = np.flatnonzero(copies_of(split.image_index, split.labels, split.boxes, split.crowd))
        if copies.size:
            effect = "these objects weigh twice" if split.name == "train" else "one of each pair counts as missed"
            notes.append(
                f"{copies.size} boxes of {split.name} are there twice, with the same image and class, first in "
                f"{split.file_names[split.image_index[copies[0]]]}: {effect}; remove the copies, or have them left out "
                "by `on_bad_boxes: repair` (--on-bad-boxes repair)"
            )
    return notes
