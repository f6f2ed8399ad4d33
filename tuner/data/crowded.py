"""Images with more objects than detections are kept of each."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tuner.data.split import Split

COCO_KEEPS = 100
"""Detections of each class and image that COCO's mAP looks at."""


def most_objects(splits: Iterable[Split]) -> int:
    """The most objects in one image; crowd regions do not count."""
    return max(int(_objects(split).sum(axis=1).max(initial=0)) for split in splits)


def crowded_notes(splits: Iterable[Split], max_detections: int, remedy: str) -> list[str]:
    """Sentences where objects must be missed, since no more detections of an image are kept, or by COCO's mAP alone.

    Args:
        splits: Of one data set.
        max_detections: Detections that are kept of an image.
        remedy: What keeps more, such as "set `max_detections`".
    """
    found = []
    for split in splits:
        objects = _objects(split)
        counts = objects.sum(axis=1)
        over = int((counts > max_detections).sum())
        if over:
            fullest = int(counts.argmax())
            found.append(
                f"{over} of {len(split)} images of {split.name} hold more objects than the {max_detections} detections "
                f"that are kept of each, {split.file_names[fullest]} {counts[fullest]}: the rest counts as missed; "
                f"{remedy}"
            )
        if len(split) and objects.max(initial=0) > COCO_KEEPS:
            fullest, label = map(int, np.unravel_index(objects.argmax(), objects.shape))
            found.append(
                f"{split.file_names[fullest]} of {split.name} holds {objects[fullest, label]} objects of class "
                f"{split.classes[label]}: COCO's mAP looks at the best {COCO_KEEPS} detections of a class and image, "
                "so it cannot reach 1 here whatever is detected; F1 and the criteria of thresholds look at all"
            )
    return found


def _objects(split: Split) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """(N, K): objects of each class in each image."""
    counts = np.zeros((len(split), len(split.classes)), np.int64)
    np.add.at(counts, (split.image_index[~split.crowd], split.labels[~split.crowd]), 1)
    return counts
