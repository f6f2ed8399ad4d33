"""Random changes to letterboxed training images, with boxes that stay exact.

Geometry (mosaic, scale, shift, flips) is own code: every change is an axis-aligned cut-and-resize of whole
pixels, so a box is mapped exactly and stays as tight as it was; rotation and shear would loosen it. One
`cv2.resize` per tile straight from the cached image into the batch takes the place of albumentations' chain
of mosaic, affine and flip. Colour is albumentations'. Measured, ms for a 320 x 256 image, one thread:

| operation | albumentations 2.0.8 or OpenCV's warp | here |
| --- | --- | --- |
| mosaic of four | 5.5 to 6.8 (`A.Mosaic`), 0.57 (`cv2.warpAffine` per tile) | 0.2 + boxes 0.1 |
| scale and shift | 1.4 (`A.Affine`), 0.53 (`cv2.warpAffine`) | 0.12 |
| flip | 0.37 | 0.015 |
| brightness, contrast | 0.02 | the same call |
| hue, saturation, value | 0.39 | the same call, for half of the samples |

`Augment.strength` s (0 … 1) sets how far a sample may go:

| change | range | with probability |
| --- | --- | --- |
| scale (single image) | 1 / (1 + 0.6 s) … 1 + 0.6 s, uniform in its logarithm | 0.75 |
| aspect ratio | 1 / (1 + 0.2 s) … 1 + 0.2 s, likewise, with every scale change | 0.75; mosaic tiles always |
| shift (single image) | a share s of what scale leaves, from the middle | 0.75 |
| brightness / contrast | ± 0.2 s / ± 0.4 s | 0.8 |
| hue / saturation / value | ± 20 s of 180 / ± 50 s of 255 / ± 20 s of 255 | 0.5 |

At 0 none of them happens; flips and mosaic have probabilities of their own. A mosaic's four tiles meet at a
random point in the middle half of the canvas; each shows an image at 0.5 to 1.2 of its cached size, cut at
random where it is larger than its tile.
"""

from __future__ import annotations

import math
import os
import random
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

# On import it asks the package index for a newer version, with a time-out of seconds, unless told not to.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import albumentations

from tuner.config.trial import Augment
from tuner.data.letterbox import PAD_VALUE
from tuner.data.unseen import MIN_SIDE

MIN_VISIBLE = 0.25
"""A box of which less than this share of its area is left in the sample is dropped."""
MOSAIC_SCALE = (0.5, 1.2)
"""Size of an image in a mosaic, relative to its cached size."""
_MOSAIC_CENTRE = (0.25, 0.75)
_AFFINE_PROBABILITY = 0.75


class Tile(NamedTuple):
    """A rectangle of a cached image and the rectangle of the sample that it fills, xyxy in whole pixels."""

    source: tuple[int, int, int, int]
    target: tuple[int, int, int, int]

    def transform(self) -> tuple[float, float, float, float]:
        """(scale x, scale y, shift x, shift y): x_sample = x_cached * scale x + shift x, exactly."""
        (x0, y0, x1, y1), (u0, v0, u1, v1) = self
        scale_x, scale_y = (u1 - u0) / (x1 - x0), (v1 - v0) / (y1 - y0)
        return scale_x, scale_y, u0 - x0 * scale_x, v0 - y0 * scale_y


Rect = tuple[int, int, int, int]


def place(content: Rect, area: Rect, scale: tuple[float, float], position: tuple[float, float]) -> Tile:
    """Fit the content of a cached image into an area of the sample.

    Where the scaled content is larger than the area, a part of it is cut out; where it is smaller, it floats
    in the area. `scale` is met to the next whole pixel.

    Args:
        content: xyxy in pixels of the cached image, the part inside the letterbox's margins.
        area: xyxy in pixels of the sample.
        scale: Size in the sample relative to the cached image, horizontally and vertically.
        position: Which part is cut out, or where the content floats: 0 left (top) … 1 right (bottom).
    """
    x0, x1, u0, u1 = _place_axis(content[0], content[2], area[0], area[2], scale[0], position[0])
    y0, y1, v0, v1 = _place_axis(content[1], content[3], area[1], area[3], scale[1], position[1])
    return Tile((x0, y0, x1, y1), (u0, v0, u1, v1))


def _place_axis(start: int, end: int, low: int, high: int, scale: float, position: float) -> tuple[int, int, int, int]:
    length, room = end - start, high - low
    if length * scale >= room:
        cut = min(max(round(room / scale), 1), length)
        first = start + round(position * (length - cut))
        return first, first + cut, low, high
    size = min(max(round(length * scale), 1), room)
    first = low + round(position * (room - size))
    return start, end, first, first + size


class Augmenter:
    """Makes samples; not safe for threads, because albumentations keeps its random state in the transform.

    Args:
        augment: Probabilities and strength.
        images: (N, H, W, 3) uint8, RGB, letterboxed.
        content: (N, 4) integers, xyxy in whole pixels: the part of the canvas that each image covers.
        boxes: (M, 4) float, xyxy in canvas pixels, grouped by image.
        crowd: (M,) bool, boxes that are kept however little is left of them.
        offsets: (N + 1,); the boxes of image i are `offsets[i]:offsets[i + 1]`.
    """

    def __init__(
        self,
        augment: Augment,
        images: NDArray[np.uint8],
        content: NDArray[np.int64],
        boxes: NDArray[np.float64],
        crowd: NDArray[np.bool_],
        offsets: NDArray[np.int64],
    ) -> None:
        self._augment = augment
        self._images = images
        self._content: list[Rect] = [(x0, y0, x1, y1) for x0, y0, x1, y1 in content.tolist()]
        self._boxes, self._crowd = boxes, crowd
        self._offsets: list[int] = offsets.tolist()
        self._colour = _colour(augment.strength)

    def sample(
        self, index: int, rng: np.random.Generator, *, mosaic: bool, out: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Make one sample.

        Args:
            index: The image that the sample is of (and of a mosaic's first tile).
            rng: The only source of randomness.
            mosaic: Whether mosaics are still made.
            out: (H, W, 3) uint8, RGB, written to.

        Returns:
            (n, 4) float64, xyxy in pixels of the sample, clipped to it, and (n,) int64, which of the split's
            boxes they are.
        """
        # All numbers in one call: a call costs more than a number.
        numbers = iter(rng.random(24).tolist())
        if mosaic and next(numbers) < self._augment.mosaic:
            others = rng.integers(len(self._images), size=3).tolist()
            indices = [index, *others]
            tiles = self._mosaic_tiles(indices, numbers, out.shape)
        else:
            indices = [index]
            tiles = [self._single_tile(index, numbers, out.shape)]
        self._draw(indices, tiles, out)
        boxes, rows = self._map_boxes(indices, tiles)
        height, width = out.shape[:2]
        if next(numbers) < self._augment.horizontal_flip:
            cv2.flip(out, 1, dst=out)
            boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
        if next(numbers) < self._augment.vertical_flip:
            cv2.flip(out, 0, dst=out)
            boxes[:, [1, 3]] = height - boxes[:, [3, 1]]
        if self._colour is not None:
            self._colour.set_random_state(rng, random.Random(int(rng.integers(2**63))))
            out[:] = self._colour(image=out)["image"]
        return boxes, rows

    def _single_tile(self, index: int, numbers: Any, shape: tuple[int, ...]) -> Tile:
        content, strength = self._content[index], self._augment.strength
        height, width = shape[:2]
        if strength == 0 or next(numbers) >= _AFFINE_PROBABILITY:
            return Tile(content, content)
        scale = (1 + 0.6 * strength) ** (2 * next(numbers) - 1)
        position = 0.5 + strength * (next(numbers) - 0.5), 0.5 + strength * (next(numbers) - 0.5)
        return place(content, (0, 0, width, height), self._stretched(scale, next(numbers)), position)

    def _mosaic_tiles(self, indices: list[int], numbers: Any, shape: tuple[int, ...]) -> list[Tile]:
        height, width = shape[:2]
        low, high = _MOSAIC_CENTRE
        x = round(width * (low + (high - low) * next(numbers)))
        y = round(height * (low + (high - low) * next(numbers)))
        areas = ((0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height))
        smallest, largest = MOSAIC_SCALE
        tiles = []
        for index, area in zip(indices, areas, strict=True):
            scale = smallest * (largest / smallest) ** next(numbers)
            stretched = self._stretched(scale, next(numbers))
            tiles.append(place(self._content[index], area, stretched, (next(numbers), next(numbers))))
        return tiles

    def _stretched(self, scale: float, number: float) -> tuple[float, float]:
        half = math.sqrt((1 + 0.2 * self._augment.strength) ** (2 * number - 1))
        return scale * half, scale / half

    def _draw(self, indices: list[int], tiles: list[Tile], out: NDArray[np.uint8]) -> None:
        height, width = out.shape[:2]
        if sum((u1 - u0) * (v1 - v0) for _, (u0, v0, u1, v1) in tiles) < height * width:
            out[:] = PAD_VALUE
        for index, ((x0, y0, x1, y1), (u0, v0, u1, v1)) in zip(indices, tiles, strict=True):
            source, target = self._images[index, y0:y1, x0:x1], out[v0:v1, u0:u1]
            if source.shape == target.shape:
                target[:] = source
            else:
                cv2.resize(source, (u1 - u0, v1 - v0), dst=target, interpolation=cv2.INTER_LINEAR)

    def _map_boxes(self, indices: list[int], tiles: list[Tile]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        spans = [(self._offsets[index], self._offsets[index + 1]) for index in indices]
        rows = np.concatenate([np.arange(first, last) for first, last in spans])
        counts = [last - first for first, last in spans]
        moves = np.repeat(np.array([tile.transform() for tile in tiles]), counts, axis=0)
        frames = np.repeat(np.array([tile.target for tile in tiles], np.float64), counts, axis=0)
        whole = self._boxes[rows] * moves[:, [0, 1, 0, 1]] + moves[:, [2, 3, 2, 3]]
        boxes = np.minimum(np.maximum(whole, frames[:, [0, 1, 0, 1]]), frames[:, [2, 3, 2, 3]])
        sides, whole_sides = boxes[:, 2:] - boxes[:, :2], whole[:, 2:] - whole[:, :2]
        visible = sides.prod(axis=1) >= MIN_VISIBLE * whole_sides.prod(axis=1)
        keep = (visible | self._crowd[rows]) & (sides >= MIN_SIDE).all(axis=1)
        return boxes[keep], rows[keep]


def _colour(strength: float) -> albumentations.Compose | None:
    if strength == 0:
        return None
    return albumentations.Compose(
        [
            albumentations.RandomBrightnessContrast(
                brightness_limit=0.2 * strength, contrast_limit=0.4 * strength, p=0.8
            ),
            albumentations.HueSaturationValue(
                hue_shift_limit=20 * strength, sat_shift_limit=50 * strength, val_shift_limit=20 * strength, p=0.5
            ),
        ]
    )
