"""Prediction on image files, whole or in tiles (`tuner.config.trial.Tiles`), with no file in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from tuner.config.trial import Tiles
from tuner.data.check import check_sizes
from tuner.data.images import read_image
from tuner.data.letterbox import Canvas, letterbox, placements
from tuner.data.split import Split
from tuner.data.tiles import windows_of
from tuner.models.detector import Detector
from tuner.models.predictions import RawPredictions
from tuner.trainers.contract import silent
from tuner.trainers.detection.precision import Precision
from tuner.trainers.detection.predict import predict


def predict_tiles(
    detector: Detector,
    split: Split,
    tiles: Tiles,
    canvas: Canvas,
    precision: Precision,
    batch_size: int,
    alive: Callable[[], None] = silent,
) -> RawPredictions:
    """Raw predictions of all windows on each image, in pixels of the image.

    Args:
        detector: On `precision.device`; put into eval mode.
        split: Images of any sizes.
        tiles: How images are cut; `WHOLE`: not at all.
        canvas: That every window is letterboxed into.
        precision: Arithmetic.
        batch_size: Windows at a time.
        alive: Called for each batch.

    Raises:
        DataError: An image cannot be read, or has another size than the split says; named.
    """
    windows = [windows_of(width, height, tiles) for width, height in split.sizes.tolist()]
    every = np.concatenate(windows)
    sizes = (every[:, 2:] - every[:, :2]).astype(np.int32)
    seen = predict(
        detector,
        batches_of_windows(split, windows, canvas, batch_size),
        placements(sizes, canvas),
        sizes,
        precision,
        alive,
    )
    return merge_windows(seen, every, np.array([len(each) for each in windows]))


def merge_windows(seen: RawPredictions, windows: NDArray[np.int64], counts: NDArray[np.int64]) -> RawPredictions:
    """Predictions in windows as predictions on their images.

    Args:
        seen: Of T windows, in pixels of each window.
        windows: (T, 4) xyxy in pixels of the image, by image.
        counts: (N,) number of windows of each image.
    """
    window = seen.image_index
    image = np.repeat(np.arange(len(counts)), counts)[window]
    shift = windows[window][:, [0, 1, 0, 1]]
    boxes = (seen.boxes.astype(np.float64) + shift).astype(np.float32)
    order = np.lexsort((-seen.scores, image))
    ends = np.concatenate([[0], np.cumsum(counts)])
    return RawPredictions(boxes[order], seen.scores[order], seen.labels[order], seen.offsets[ends])


def batches_of_windows(
    split: Split, windows: Sequence[NDArray[np.int64]], canvas: Canvas, batch_size: int
) -> Iterator[torch.Tensor]:
    """(B, 3, H, W) uint8, all windows in order; one image is held in memory at a time."""
    batch = []
    for name, size, each in zip(split.file_names, split.sizes, windows, strict=True):
        path = split.images_dir / name
        image = read_image(path)
        check_sizes([path], size[None], np.array([[image.shape[1], image.shape[0]]], np.int32))
        for left, top, right, bottom in each.tolist():
            batch.append(letterbox(np.ascontiguousarray(image[top:bottom, left:right]), canvas))
            if len(batch) == batch_size:
                yield _stacked(batch)
                batch = []
    if batch:
        yield _stacked(batch)


def _stacked(batch: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
    return torch.from_numpy(np.stack(batch)).permute(0, 3, 1, 2)
