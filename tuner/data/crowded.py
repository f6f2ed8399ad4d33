"""Images with more objects than detections are kept of each."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from tuner.data.split import Split

COCO_KEEPS = 100
"""Detections of each class and image that COCO's mAP looks at."""


def most_objects(splits: Iterable[Split]) -> int:
    """The most objects in one image; crowd regions do not count."""
    return max(int(_of_images(split).max(initial=0)) for split in splits)


def crowded_notes(splits: Iterable[Split], max_detections: int, remedy: str) -> list[str]:
    """Sentences where objects must be missed, since no more detections of an image are kept, or by COCO's mAP alone.

    Args:
        splits: Of one data set.
        max_detections: Detections that are kept of an image.
        remedy: What keeps more, such as "set `max_detections`".
    """
    found = []
    for split in splits:
        counts = _of_images(split)
        over = int((counts > max_detections).sum())
        if over:
            fullest = int(counts.argmax())
            found.append(
                f"{over} of {len(split)} images of {split.name} hold more objects than the {max_detections} detections "
                f"that are kept of each, {split.file_names[fullest]} {counts[fullest]}: the rest counts as missed; "
                f"{remedy}"
            )
        most, image, label = _most_of_a_class(split)
        if most > COCO_KEEPS:
            found.append(
                f"{split.file_names[image]} of {split.name} holds {most} objects of class {split.classes[label]}: "
                f"COCO's mAP looks at the best {COCO_KEEPS} detections of a class and image, so it cannot reach 1 here "
                "whatever is detected; F1 and the criteria of thresholds look at all"
            )
    return found


def _of_images(split: Split) -> NDArray[np.int64]:
    """(N,): objects in each image."""
    return np.bincount(split.image_index[~split.crowd], minlength=len(split))


def _most_of_a_class(split: Split) -> tuple[int, int, int]:
    """The most objects of one class in one image, that image and that class; all 0 where there are none.

    A table of images x classes would take a gigabyte for LVIS, and be nearly empty.
    """
    kinds = len(split.classes)
    pairs, counts = np.unique((split.image_index * kinds + split.labels)[~split.crowd], return_counts=True)
    if not counts.size:
        return 0, 0, 0
    fullest = int(counts.argmax())
    image, label = divmod(int(pairs[fullest]), kinds)
    return int(counts[fullest]), image, label
