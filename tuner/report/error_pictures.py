"""The worst errors as cropped pictures: what to label, augment or collect next."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tuner.data.images import read_image
from tuner.evaluation.errors import KINDS, Explained
from tuner.report.pictures import Image, draw_boxes, write_picture

_MARGIN, _LEAST = 0.75, 96
"""Context around a box, in its longer sides, and the least side of a picture in pixels."""


def draw_worst(errors: Explained, folder: Path, *, most: int = 20) -> list[Path]:
    """Draw the false positives of highest score, and the largest boxes that nothing found.

    Every picture shows the boxes around, and the detection with its score where there is one. Those of an earlier call
    are removed from the folder.

    Args:
        errors: Of the detections that production shows.
        folder: Where to write; made where it does not exist.
        most: Pictures of either kind.

    Returns:
        The files: `false-positive-01-KIND-CLASS.jpg` and `missed-01-CLASS.jpg`, the worst first; PNG where too
        long for JPEG.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for older in folder.iterdir():  # of another model, or of other thresholds
        if re.fullmatch(r"(false-positive|missed)-\d\d-.*\.(jpg|png)", older.name):
            older.unlink()
    split, found = errors.split, errors.detections
    wrong = np.flatnonzero(errors.kind >= 0)
    wrong = wrong[np.argsort(-found.scores[wrong], kind="stable")][:most]
    lost = np.flatnonzero(errors.lost)
    lost = lost[np.argsort(-split.areas[lost], kind="stable")][:most]
    names, kinds = split.classes, tuple(KINDS)
    written = []
    for place, row in enumerate(wrong.tolist(), start=1):
        name = f"false-positive-{place:02d}-{kinds[errors.kind[row]]}-{_safe(names[found.labels[row]])}"
        box = found.boxes[row].astype(np.float64)
        written.append(write_picture(_crop(errors, int(found.image_index[row]), box, row), folder, name))
    for place, row in enumerate(lost.tolist(), start=1):
        box = split.corners[row]
        name = f"missed-{place:02d}-{_safe(names[split.labels[row]])}"
        written.append(write_picture(_crop(errors, int(split.image_index[row]), box, None), folder, name))
    return written


def _crop(errors: Explained, image: int, box: NDArray[np.float64], detection: int | None) -> Image:
    split, found = errors.split, errors.detections
    pixels = read_image(split.images_dir / split.file_names[image])
    left, top, right, bottom = window(box, (pixels.shape[1], pixels.shape[0]))
    part = pixels[top:bottom, left:right]
    rows = slice(split.offsets[image], split.offsets[image + 1])
    shift = np.array([left, top, left, top])
    truth = split.corners[rows] - shift
    drawn = draw_boxes(part, truth, split.labels[rows], split.classes, crowd=split.crowd[rows])
    if detection is not None:
        one = slice(detection, detection + 1)
        drawn = draw_boxes(drawn, found.boxes[one] - shift, found.labels[one], split.classes, found.scores[one])
    return drawn


def window(box: NDArray[np.float64], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The part of an image that shows a box and what is around it.

    Args:
        box: xyxy in pixels.
        size: (width, height) of the image.

    Returns:
        xyxy in whole pixels, within the image; never empty.
    """
    side = max(box[2] - box[0], box[3] - box[1])
    half = max(side * (0.5 + _MARGIN), _LEAST / 2)
    centre = (box[:2] + box[2:]) / 2
    limit = np.array(size)
    start = np.clip(np.floor(centre - half), 0, limit - 1).astype(int)
    stop = np.clip(np.ceil(centre + half), start + 1, limit).astype(int)
    return int(start[0]), int(start[1]), int(stop[0]), int(stop[1])


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)
