"""Sliced prediction: every image is seen whole and in overlapping tiles, and one suppression merges what was found.

After Akyon et al. 2022, "Slicing aided hyper inference and fine-tuning for small object detection" (SAHI); here the
merging is the model's own post-processing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from tuner.data.images import read_image
from tuner.data.letterbox import Canvas, letterbox, placements
from tuner.data.split import Split
from tuner.data.tiles import Tiling, tiles_of
from tuner.export.model import LoadedModel
from tuner.models.predictions import RawPredictions
from tuner.trainers.detection.precision import Precision
from tuner.trainers.detection.predict import predict


def predict_tiles(
    model: LoadedModel, split: Split, device: torch.device, tiling: Tiling, batch_size: int = 8
) -> RawPredictions:
    """Raw predictions of all windows on each image, in pixels of the image.

    Args:
        model: On `device`.
        split: Images of any sizes.
        device: Where to compute.
        tiling: How images are cut; every window is letterboxed to the model's canvas.
        batch_size: Windows at a time.

    Raises:
        DataError: An image cannot be read; named.
    """
    windows = [tiles_of(width, height, tiling) for width, height in split.sizes.tolist()]
    every = np.concatenate(windows)
    sizes = (every[:, 2:] - every[:, :2]).astype(np.int32)
    seen = predict(
        model.detector,
        _batches(split, windows, model.canvas, batch_size),
        placements(sizes, model.canvas),
        sizes,
        Precision(model.config, device),
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


def _batches(
    split: Split, windows: Sequence[NDArray[np.int64]], canvas: Canvas, batch_size: int
) -> Iterator[torch.Tensor]:
    """(B, 3, H, W) uint8, all windows in order; one image is held in memory at a time."""
    batch = []
    for name, each in zip(split.file_names, windows, strict=True):
        image = read_image(split.images_dir / name)
        for left, top, right, bottom in each.tolist():
            batch.append(letterbox(np.ascontiguousarray(image[top:bottom, left:right]), canvas))
            if len(batch) == batch_size:
                yield _stacked(batch)
                batch = []
    if batch:
        yield _stacked(batch)


def _stacked(batch: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
    return torch.from_numpy(np.stack(batch)).permute(0, 3, 1, 2)
