"""Splits and detections made at random, shared by the tests of evaluation and post-processing and by the benchmarks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tuner.data.split import Split
from tuner.models.predictions import Detections, RawPredictions


def make_split(image, labels, boxes, *, images, classes, crowd=None, areas=None, image_ids=None) -> Split:
    """A split from flat lists; boxes xywh, `image` ascending."""
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    count = len(boxes)
    image = np.asarray(image, dtype=np.int64)
    return Split(
        name="val",
        images_dir=Path("images"),
        file_names=tuple(f"{i}.jpg" for i in range(images)),
        image_ids=np.arange(10, 10 + images) if image_ids is None else np.asarray(image_ids, dtype=np.int64),
        sizes=np.full((images, 2), 640, dtype=np.int32),
        boxes=boxes,
        areas=boxes[:, 2] * boxes[:, 3] if areas is None else np.asarray(areas, dtype=np.float64),
        labels=np.asarray(labels, dtype=np.int64),
        crowd=np.zeros(count, dtype=bool) if crowd is None else np.asarray(crowd, dtype=bool),
        annotation_ids=np.arange(count),
        offsets=np.concatenate([[0], np.cumsum(np.bincount(image, minlength=images))]).astype(np.int64),
        classes=tuple(f"class {k}" for k in range(classes)),
        category_ids=tuple(3 * k + 2 for k in range(classes)),
    )


def make_predictions(kind, image, labels, boxes, scores, *, images):
    """Predictions from flat arrays in any order; boxes xyxy."""
    image, scores = np.asarray(image, dtype=np.int64), np.asarray(scores, dtype=np.float32)
    order = np.lexsort((-scores, image))
    return kind(
        boxes=np.asarray(boxes, dtype=np.float32).reshape(-1, 4)[order],
        scores=scores[order],
        labels=np.asarray(labels, dtype=np.int64)[order],
        offsets=np.concatenate([[0], np.cumsum(np.bincount(image, minlength=images))]).astype(np.int64),
    )


def random_case(
    rng: np.random.Generator,
    *,
    images: int,
    classes: int,
    boxes: int,
    detections: int,
    kind: type = Detections,
    near: float = 0.7,
    crowds: float = 0.0,
    odd_areas: float = 0.0,
    grid: float = 0.0,
    score_steps: int = 0,
    noise: float = 0.15,
) -> tuple[Split, Detections | RawPredictions]:
    """Ground truth at random and detections, a part of which lies near the ground truth.

    Args:
        near: Share of the detections that are a ground-truth box with noise (and mostly its class).
        crowds: Share of the boxes that are crowds.
        odd_areas: Share of the boxes whose `area` is not width * height.
        grid: Coordinates are multiples of it, so that IoUs tie; 0 leaves them free.
        score_steps: Scores are multiples of 1 / score_steps, so that they tie; 0 leaves them free.
        noise: Standard deviation of the noise, as a share of the box's size.
    """

    def snap(values):
        return np.maximum(grid, np.round(values / grid) * grid) if grid else values

    image = np.sort(rng.integers(images, size=boxes))
    labels = rng.integers(classes, size=boxes)
    sides = snap(np.exp(rng.uniform(np.log(8), np.log(200), size=(boxes, 2))))
    xywh = np.concatenate([snap(rng.uniform(0, 440, size=(boxes, 2))), sides], axis=1)
    areas = xywh[:, 2] * xywh[:, 3] * np.where(rng.random(boxes) < odd_areas, rng.uniform(0.2, 1.0, boxes), 1.0)
    split = make_split(
        image,
        labels,
        xywh,
        images=images,
        classes=classes,
        crowd=rng.random(boxes) < crowds,
        areas=areas,
        image_ids=rng.permutation(images) + 5,
    )
    if boxes:
        chosen = rng.integers(boxes, size=detections)
        wobble = rng.normal(0, noise, size=(detections, 4)) * np.tile(xywh[chosen, 2:], 2)
        found = xywh[chosen] + wobble
        stay = rng.random(detections) < near
        same = rng.random(detections) < 0.9
        d_image = np.where(stay, image[chosen], rng.integers(images, size=detections))
        d_label = np.where(stay & same, labels[chosen], rng.integers(classes, size=detections))
    else:
        found = np.concatenate(
            [rng.uniform(0, 440, size=(detections, 2)), rng.uniform(8, 200, size=(detections, 2))], axis=1
        )
        d_image, d_label = rng.integers(images, size=detections), rng.integers(classes, size=detections)
        stay = np.zeros(detections, dtype=bool)
    found = snap(np.concatenate([found[:, :2], np.abs(found[:, 2:])], axis=1))
    scores = np.clip(rng.beta(2, 5, size=detections) + 0.3 * stay, 0, 1)
    if score_steps:
        scores = np.round(scores * score_steps) / score_steps
    corners = np.concatenate([found[:, :2], found[:, :2] + found[:, 2:]], axis=1)
    return split, make_predictions(kind, d_image, d_label, corners, scores, images=images)


def raw_case(seed, **shape) -> tuple[Split, RawPredictions]:
    """A small random case before suppression, of four images and two classes if nothing else is said."""
    options = {"images": 4, "classes": 2, "boxes": 15, "detections": 90} | shape
    return random_case(np.random.default_rng(seed), kind=RawPredictions, **options)
