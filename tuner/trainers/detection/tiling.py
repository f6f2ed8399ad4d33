"""Prediction on image files, whole or in tiles (`tuner.config.trial.Tiles`), with no file in between."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tuner.config.alive import SignOfLife, silent
from tuner.config.trial import Tiles
from tuner.data.image_checks import check_sizes
from tuner.data.images import read_image
from tuner.data.letterbox import Canvas, letterbox, placements
from tuner.data.split import Split
from tuner.data.tiles import windows_of
from tuner.models.detector import Detector
from tuner.models.predictions import RawPredictions
from tuner.postprocess.pairs import rank_in_run
from tuner.trainers.detection.precision import Precision
from tuner.trainers.detection.predict import predict_parts

_WINDOWS_OF_AN_OBJECT = 3
"""Most objects show in two or three windows: the whole image, and a tile or two."""


def predict_tiles(
    detector: Detector,
    split: Split,
    tiles: Tiles,
    canvas: Canvas,
    precision: Precision,
    batch_size: int,
    alive: SignOfLife = silent,
) -> RawPredictions:
    """Raw predictions of all windows on each image, in pixels of the image; the best `most_rows` of each.

    Args:
        detector: On `precision.device`; put into eval mode.
        split: Images of any sizes.
        tiles: How images are cut; `WHOLE`: not at all.
        canvas: That every window is letterboxed into.
        precision: Arithmetic.
        batch_size: Windows at a time.
        alive: Called for each batch, with how many of the windows it is up to.

    Raises:
        DataError: An image cannot be read, or has another size than the split says; named.
    """
    windows = [windows_of(width, height, tiles) for width, height in split.sizes.tolist()]
    every = np.concatenate(windows)
    sizes = (every[:, 2:] - every[:, :2]).astype(np.int32)
    seen = predict_parts(
        detector,
        batches_of_windows(split, windows, canvas, batch_size),
        placements(sizes, canvas),
        sizes,
        precision,
        alive,
    )
    return merge_windows(seen, every, np.array([len(each) for each in windows]), most_rows(detector))


def most_rows(detector: Detector) -> int:
    """Raw predictions that are kept of an image, however many windows it has.

    A detector gives at least ten for each detection that is kept of an image (`tuner.models.build`), so that these
    are thirty or more: enough for suppression and votes, whose weights are scores.
    """
    return _WINDOWS_OF_AN_OBJECT * detector.max_candidates


def merge_windows(
    seen: Iterable[RawPredictions], windows: NDArray[np.int64], counts: NDArray[np.int64], most: int
) -> RawPredictions:
    """Predictions in windows as predictions on their images, the best of each.

    An image of 4,000 x 3,000 pixels has 49 windows of 640 pixels, and 49,000 rows: what is not among the best of its
    image is let go as soon as it is seen, so that a split of such images takes little more memory than one of small
    ones.

    Args:
        seen: Of T windows, some at a time in their order, in pixels of each window.
        windows: (T, 4) xyxy in pixels of the image, by image.
        counts: (N,) number of windows of each image.
        most: Rows that are kept of an image, those of highest score.
    """
    ends = np.cumsum(counts)
    image = np.repeat(np.arange(len(counts)), counts)
    begun: list[NDArray[Any]] = [
        np.zeros((0, 4), np.float32),
        np.zeros(0, np.float32),
        np.zeros(0, np.int64),
        np.zeros(0, np.int64),
    ]
    whole: list[list[NDArray[Any]]] = []
    at = 0
    for part in seen:
        window = at + part.image_index
        at += len(part.offsets) - 1
        boxes = (part.boxes.astype(np.float64) + windows[window][:, [0, 1, 0, 1]]).astype(np.float32)
        fresh: tuple[NDArray[Any], ...] = (boxes, part.scores, part.labels, image[window])
        rows = [np.concatenate(pair) for pair in zip(begun, fresh, strict=True)]
        # What is not a number comes first, so that it stays to be refused.
        order = np.lexsort((-np.nan_to_num(rows[1], nan=np.inf), rows[3]))
        order = order[rank_in_run(rows[3][order]) < most]
        ready = int(np.searchsorted(rows[3][order], np.searchsorted(ends, at, side="right")))
        whole.append([column[order[:ready]] for column in rows])
        begun = [column[order[ready:]] for column in rows]
    boxes, scores, labels, of = (np.concatenate(columns) for columns in zip(*whole, strict=True))
    offsets = np.concatenate([[0], np.cumsum(np.bincount(of, minlength=len(counts)))])
    return RawPredictions(boxes, scores, labels, offsets)


def batches_of_windows(
    split: Split, windows: Sequence[NDArray[np.int64]], canvas: Canvas, batch_size: int
) -> Iterator[torch.Tensor]:
    """(B, 3, H, W) uint8, all windows in order; one image is held in memory at a time."""
    batch = []
    for path, size, each in zip(split.paths, split.sizes, windows, strict=True):
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
