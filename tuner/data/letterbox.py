"""Letterboxing: images of any size scaled, with their aspect ratio kept, into one canvas.

A pixel's coordinates run from its left (top) edge, so a point (x, y) of an image lies in the canvas at
(x * scale + left, y * scale + top), exactly, also where the scaled size is not a whole number of pixels.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

PAD_VALUE = 114
"""Grey of the canvas outside the image, in all channels."""

STRIDE = 32
"""Largest stride of the detectors, in pixels."""

_TIE = 0.01


class Canvas(NamedTuple):
    """Size of the letterboxed image in pixels; both are multiples of `STRIDE`."""

    width: int
    height: int


def canvas_for(sizes: NDArray[np.integer[Any]], image_size: int) -> Canvas:
    """The canvas whose aspect suits a set of images.

    The longer side is `image_size`, rounded up to a multiple of `STRIDE`. The shorter side, and whether the
    canvas lies or stands, is chosen among all multiples of `STRIDE` such that the images cover as much of the
    canvas as possible: the greatest geometric mean of the covered shares (geometric, so that an image
    squeezed into a corner counts for more than one that fits perfectly). Among canvases within 1 % of the
    best, the largest is taken, and a lying one before a standing one.

    Args:
        sizes: (N, 2) integers, (width, height) of the images in pixels; N > 0.
        image_size: Longer side of the canvas in pixels.

    Returns:
        The canvas; 640 x 480 images at 320 give 320 x 256, at 256 they give 256 x 192.
    """
    longer = -(-image_size // STRIDE) * STRIDE
    shapes, counts = np.unique(np.asarray(sizes, np.float64).reshape(-1, 2), axis=0, return_counts=True)
    sides = range(longer, 0, -STRIDE)
    candidates = [Canvas(longer, side) for side in sides] + [Canvas(side, longer) for side in sides[1:]]
    covers = []
    for canvas in candidates:
        scale = np.minimum(canvas.width / shapes[:, 0], canvas.height / shapes[:, 1])
        share = scale**2 * shapes.prod(axis=1) / (canvas.width * canvas.height)
        covers.append(float(np.exp(np.average(np.log(share), weights=counts))))
    best = max(covers)
    good = [canvas for canvas, cover in zip(candidates, covers, strict=True) if cover >= best * (1 - _TIE)]
    return max(good, key=lambda canvas: (canvas.width * canvas.height, canvas.width))


def placements(sizes: ArrayLike, canvas: Canvas) -> NDArray[np.float64]:
    """Where images lie in the canvas: as large as fits, in the middle.

    Args:
        sizes: (..., 2) integers, (width, height) of the images in pixels.
        canvas: Size of the canvas in pixels.

    Returns:
        (..., 3) float64, (scale, left, top): x_canvas = x * scale + left, y_canvas = y * scale + top.
        `left` and `top` are whole pixels.
    """
    scale, content = _content(sizes, canvas)
    margins = (np.asarray(canvas) - content) // 2
    return np.concatenate([scale[..., None], margins], axis=-1)


def content_rects(sizes: ArrayLike, canvas: Canvas) -> NDArray[np.int64]:
    """(..., 4) int64, xyxy in whole canvas pixels: the part of the canvas that each image covers."""
    _, content = _content(sizes, canvas)
    start = (np.asarray(canvas) - content) // 2
    return np.concatenate([start, start + content], axis=-1)


def _content(sizes: ArrayLike, canvas: Canvas) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    shape = np.asarray(sizes, np.float64)
    scale = np.asarray((np.asarray(canvas) / shape).min(axis=-1))
    content = np.maximum(np.rint(shape * scale[..., None]), 1).astype(np.int64)
    return scale, content


def to_canvas(boxes: NDArray[np.floating[Any]], placement: NDArray[np.float64]) -> NDArray[np.float64]:
    """Boxes from original to canvas pixels.

    Args:
        boxes: (..., 4) xyxy in pixels of the original image.
        placement: (..., 3) as of `placements`, one for all boxes or one for each.

    Returns:
        (..., 4) float64, xyxy in pixels of the canvas; not clipped.
    """
    return boxes * placement[..., :1] + placement[..., [1, 2, 1, 2]]


def letterbox(image: NDArray[np.uint8], canvas: Canvas) -> NDArray[np.uint8]:
    """Scale an image into the canvas, surrounded by grey where its aspect differs.

    Averages areas where the image shrinks, interpolates linearly where it grows.

    Args:
        image: (H, W, 3) uint8.
        canvas: Size of the result in pixels.

    Returns:
        (canvas.height, canvas.width, 3) uint8.
    """
    height, width = image.shape[:2]
    scale = min(canvas.width / width, canvas.height / height)
    left, top, right, bottom = content_rects((width, height), canvas).tolist()
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    if round(width * scale) >= 1 and round(height * scale) >= 1:
        # Given factors instead of a size, OpenCV does not stretch the image to whole pixels.
        content = cv2.resize(image, None, fx=scale, fy=scale, interpolation=method)
    else:
        content = cv2.resize(image, (right - left, bottom - top), interpolation=method)
    result = np.full((canvas.height, canvas.width, 3), PAD_VALUE, np.uint8)
    result[top:bottom, left:right] = content
    return result
