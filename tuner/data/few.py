"""Too few objects to learn from or to judge by."""

from __future__ import annotations

from tuner.config.errors import listed
from tuner.data.survey import Survey

FEW_OBJECTS = 30
"""Objects of val below which a single one more or less that is found moves recall by more than 3 %. On BCCD the
better half of random configs lies within 2 % of mAP."""


def few_notes(numbers: Survey) -> list[str]:
    """A sentence where val has too few objects to judge trials by."""
    val = numbers.splits[1]
    objects, images = sum(val.class_boxes), val.images - val.empty
    if objects >= FEW_OBJECTS:
        return []
    return [
        f"objects of val: just {objects}, images with objects: {images}. Which trial is best is mostly luck then: "
        "annotate more to judge by, and let `tuner confirm` check the winner"
    ]


def empty_class_notes(numbers: Survey) -> list[str]:
    """A sentence on classes that no split shows, such as the placeholder that Roboflow writes above the others."""
    counts = zip(numbers.classes, *(split.class_boxes for split in numbers.splits), strict=True)
    empty = [repr(name) for name, *boxes in counts if not any(boxes)]
    if not empty:
        return []
    have, them = ("has", "it") if len(empty) == 1 else ("have", "them")
    return [
        f"{len(empty)} of the {len(numbers.classes)} classes {have} no box in any split: {listed(empty)}; the detector "
        f"learns never to find {them}, and mAP leaves {them} out"
    ]
