"""Generated labelled scenes, for the demo and for tests: small, and hard enough that hyperparameters matter.

Three classes differ in shape, size and frequency, so that anchors matter: `disc` (round, of medium size, four
of five objects), `bar` (three to five times as wide as high) and `spot` (a small triangle, rare). Colours tell
nothing about the class; the background has texture, noise and lines that belong to no object; objects overlap;
one image in ten has none.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tuner.config.study import DataSpec

CLASSES = ("disc", "bar", "spot")
"""Names of the classes; category ids are 1, 2 and 3."""
_FREQUENCIES = (0.78, 0.14, 0.08)
_EMPTY = 0.1
_HIDDEN = 0.5
"""An object is not placed where others would cover, or it would cover of them, more than this share of a box."""


def generate(
    folder: Path, *, train: int = 96, val: int = 32, test: int = 32, size: tuple[int, int] = (192, 144), seed: int = 0
) -> DataSpec:
    """Write a COCO data set: `images/` (JPEG) and `annotations/{train,val,test}.json`.

    The same arguments give the same scenes; a split's scenes do not depend on the number in the other splits.

    Args:
        folder: Where to write; made if missing.
        train: Images for training; at least 1, as for the others.
        val: Images for validation.
        test: Images for the final test.
        size: (width, height) of every image in pixels, at least 32 each.
        seed: Of everything random.

    Returns:
        Where the data set is, with `folder` as the root.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "annotations").mkdir(exist_ok=True)
    for number, (name, count) in enumerate((("train", train), ("val", val), ("test", test))):
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for i in range(count):
            # The first image always has objects, so that no split is without boxes.
            picture, objects = scene(size, np.random.default_rng((seed, number, i)), may_be_empty=i > 0)
            file_name = f"{name}-{i:04d}.jpg"
            _, jpeg = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
            # Not by cv2.imwrite, which tells of a full disk by its result alone.
            (folder / "images" / file_name).write_bytes(jpeg.tobytes())
            images.append({"id": i + 1, "file_name": file_name, "width": size[0], "height": size[1]})
            for label, box in objects:
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": i + 1,
                        "category_id": label + 1,
                        "bbox": list(box),
                        "area": box[2] * box[3],
                        "iscrowd": 0,
                    }
                )
        categories = [{"id": label + 1, "name": name} for label, name in enumerate(CLASSES)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / "annotations" / f"{name}.json").write_text(json.dumps(content))
    return DataSpec(
        root=folder,
        train=Path("annotations/train.json"),
        val=Path("annotations/val.json"),
        test=Path("annotations/test.json"),
    )


def scene(
    size: tuple[int, int], rng: np.random.Generator, *, may_be_empty: bool = True
) -> tuple[NDArray[np.uint8], list[tuple[int, tuple[int, int, int, int]]]]:
    """Draw one scene.

    Returns:
        (H, W, 3) uint8, RGB, and for each object its class index and its box, xywh in pixels.
    """
    width, height = size
    picture = _background(size, rng)
    objects: list[tuple[int, tuple[int, int, int, int]]] = []
    taken = np.zeros((height, width), np.bool_)
    count = 0 if may_be_empty and rng.random() < _EMPTY else int(rng.integers(3, 11))
    attempts = 0
    while len(objects) < count and attempts < 10 * count:
        attempts += 1
        label = int(rng.choice(len(CLASSES), p=_FREQUENCIES))
        mask = _shape(label, size, rng)
        box = cv2.boundingRect(mask)
        covered = taken[mask > 0].mean()
        if covered > _HIDDEN or any(_share(box, other) > _HIDDEN for _, other in objects):
            continue
        _paint(picture, mask, rng)
        taken |= mask > 0
        objects.append((label, (int(box[0]), int(box[1]), int(box[2]), int(box[3]))))
    noisy = picture + rng.normal(0, 9, picture.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8), objects


def _background(size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    width, height = size
    coarse = rng.normal(0, 22, (5, 6, 3)) + rng.uniform(70, 185, 3)
    fine = rng.normal(0, 10, (height // 6, width // 6, 1)).repeat(3, axis=2)
    smooth = np.asarray(cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC), np.float64)
    picture = smooth + cv2.resize(fine, size, interpolation=cv2.INTER_LINEAR)
    for _ in range(int(rng.integers(2, 6))):
        start, end = (rng.uniform(-0.2, 1.2, 2) * size for _ in range(2))
        colour = (picture.mean(axis=(0, 1)) + rng.normal(0, 40, 3)).tolist()
        cv2.line(picture, _point(start), _point(end), colour, int(rng.integers(1, 3)), cv2.LINE_AA)
    return picture


def _shape(label: int, size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.uint8]:
    """(H, W) uint8, 255 where the object is; it lies within the image."""
    width, height = size
    unit = min(size)
    mask = np.zeros((height, width), np.uint8)
    if label == 0:
        radius = unit * rng.uniform(0.07, 0.15)
        half = np.array([radius, radius * rng.uniform(0.85, 1.15)])
    elif label == 1:
        thickness = unit * rng.uniform(0.035, 0.06)
        half = np.array([thickness * rng.uniform(3, 5), thickness])
    else:
        half = np.full(2, unit * rng.uniform(0.03, 0.05))
    half = np.maximum(np.rint(half), 2)
    centre = np.rint(rng.uniform(half, np.array([width - 1, height - 1]) - half))
    (x, y), (dx, dy) = centre, half
    if label == 0:
        cv2.ellipse(mask, _point(centre), _point(half), 0, 0, 360, 255, -1)
    elif label == 1:
        cv2.rectangle(mask, _point(centre - half), _point(centre + half), 255, -1)
    else:
        corners = np.array([(x, y - dy), (x - dx, y + dy), (x + dx, y + dy)], np.int32)
        cv2.fillPoly(mask, [corners], 255)
    return mask


def _paint(picture: NDArray[np.float64], mask: NDArray[np.uint8], rng: np.random.Generator) -> None:
    inside = mask > 0
    contrast = rng.uniform(35, 80) * rng.choice((-1, 1))
    colour = picture[inside].mean(axis=0) + contrast + rng.normal(0, 18, 3)
    picture[inside] = 0.85 * colour + 0.15 * picture[inside]
    rim = inside & (cv2.erode(mask, np.ones((3, 3), np.uint8)) == 0)
    picture[rim] -= 25


def _share(box: Sequence[int], other: Sequence[int]) -> float:
    """How much of the smaller box the other one covers."""
    wide = min(box[0] + box[2], other[0] + other[2]) - max(box[0], other[0])
    high = min(box[1] + box[3], other[1] + other[3]) - max(box[1], other[1])
    return max(wide, 0) * max(high, 0) / min(box[2] * box[3], other[2] * other[3])


def _point(values: NDArray[np.float64]) -> tuple[int, int]:
    return round(float(values[0])), round(float(values[1]))
