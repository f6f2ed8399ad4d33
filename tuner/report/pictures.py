"""Pictures of images with boxes: ground truth on the left, predictions on the right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tuner.config.files import written_whole
from tuner.data.images import read_image
from tuner.data.split import Split
from tuner.models.predictions import Detections

Image = NDArray[np.uint8]
"""(H, W, 3) uint8, RGB."""

# Ten colours that stay apart for most eyes (Okabe & Ito 2008, and two greys), RGB.
_COLOURS = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
    (120, 120, 120),
    (255, 255, 255),
    (0, 0, 0),
)
_TILE = 360
"""Longer side of each image in a picture of several, in pixels."""
_GAP = 6
_JPEG_SIDE = 65_500
"""Pixels: the longest side that libjpeg writes."""


def colour_of(label: int) -> tuple[int, int, int]:
    """RGB colour of a class index."""
    return _COLOURS[label % len(_COLOURS)]


def draw_boxes(
    image: Image,
    boxes: NDArray[np.floating],
    labels: NDArray[np.int64],
    classes: Sequence[str],
    scores: NDArray[np.floating] | None = None,
    crowd: NDArray[np.bool_] | None = None,
) -> Image:
    """A copy of the image with boxes, class names and scores drawn.

    The lines lie on the outermost pixels of a box, so that those of a box that ends where the image does are seen.

    Args:
        image: (H, W, 3) uint8 RGB.
        boxes: (P, 4) xyxy in pixels of this image; those outside of it are left out.
        labels: (P,) class indices.
        classes: Class names.
        scores: (P,), shown behind the names where given.
        crowd: (P,), which are crowd regions, neither object nor background; their names say so.
    """
    drawn = np.ascontiguousarray(image.copy())
    thick = max(1, round(max(image.shape[:2]) / 400))
    scale = max(0.35, max(image.shape[:2]) / 1300)
    end = np.array(image.shape[1::-1])
    inside = (boxes[:, 2:] > 0).all(axis=1) & (boxes[:, :2] < end).all(axis=1)
    first = np.minimum(np.round(boxes[:, :2]), end - 1).astype(int)
    last = np.maximum(np.round(boxes[:, 2:]).astype(int) - 1, first)
    for i in np.flatnonzero(inside).tolist():
        (x1, y1), corner = first[i].tolist(), last[i].tolist()
        colour = colour_of(int(labels[i]))
        cv2.rectangle(drawn, (x1, y1), corner, colour, thick)
        text = classes[int(labels[i])] + (f" {scores[i]:.2f}" if scores is not None else "")
        if crowd is not None and crowd[i]:
            text += " (crowd)"
        (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
        left, top = max(0, min(x1, image.shape[1] - 1 - width)), max(y1, height + 2)
        cv2.rectangle(drawn, (left, top - height - 2), (left + width, top), colour, -1)
        ink = (0, 0, 0) if sum(colour) > 330 else (255, 255, 255)
        cv2.putText(drawn, text, (left, top - 2), cv2.FONT_HERSHEY_SIMPLEX, scale, ink, 1, cv2.LINE_AA)
    return drawn


def choose_images(hits: NDArray[np.int64], found: NDArray[np.int64], present: NDArray[np.int64]) -> list[int]:
    """Indices of the worst, the median and the best image by F1; fewer where there are fewer images.

    An image without ground truth and without predictions counts as perfect.

    Args:
        hits: (N,) true positives of each image.
        found: (N,) predictions shown on it.
        present: (N,) true boxes in it.
    """
    total = found + present
    f1 = np.where(total > 0, 2 * hits / np.maximum(total, 1), 1.0)
    worst = np.lexsort((-total, f1))[0]  # of equals, the image with more boxes says more
    ascending = np.lexsort((total, f1))
    picks = [int(worst), int(ascending[len(f1) // 2]), int(ascending[-1])]
    return list(dict.fromkeys(picks))


def side_by_side(split: Split, detections: Detections, images: Sequence[int]) -> Image:
    """One picture: a row for each image, ground truth left, predictions right.

    Args:
        split: The annotated images.
        detections: What is shown on the right, on the same images.
        images: Indices of the images.
    """
    rows = []
    for i in images:
        image = read_image(split.images_dir / split.file_names[i])
        scale = _TILE / max(image.shape[:2])
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        small = np.asarray(cv2.resize(image, size, interpolation=method), np.uint8)
        truth = slice(split.offsets[i], split.offsets[i + 1])
        found = slice(detections.offsets[i], detections.offsets[i + 1])
        left = draw_boxes(
            small, split.corners[truth] * scale, split.labels[truth], split.classes, crowd=split.crowd[truth]
        )
        right = draw_boxes(
            small, detections.boxes[found] * scale, detections.labels[found], split.classes, detections.scores[found]
        )
        gap = np.full((small.shape[0], _GAP, 3), 255, np.uint8)
        rows.append(_pad_to_width(np.hstack([left, gap, right]), 2 * _TILE + _GAP))
        rows.append(np.full((_GAP, 2 * _TILE + _GAP, 3), 255, np.uint8))
    return np.vstack(rows[:-1]) if rows else np.full((1, 2 * _TILE + _GAP, 3), 255, np.uint8)


def _pad_to_width(row: Image, width: int) -> Image:
    return np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=255)


def write_picture(image: Image, folder: Path, name: str) -> Path:
    """Write an image as JPEG, or as PNG where it is too long for JPEG, whole or not at all.

    Args:
        image: (H, W, 3) uint8 RGB.
        folder: Where to; it exists.
        name: Name of the file, without suffix.

    Raises:
        ConfigError: It cannot be written.
    """
    suffix = ".jpg" if max(image.shape[:2]) <= _JPEG_SIDE else ".png"
    path = folder / f"{name}{suffix}"
    with written_whole(path) as whole:
        whole.write_bytes(encode(image, suffix))
    return path


def encode(image: Image, suffix: str = ".jpg") -> bytes:
    """The image as the bytes of a JPEG or PNG file."""
    done, data = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not done:
        raise ValueError(f"cannot encode an image of shape {image.shape} as {suffix}")
    return bytes(data)
