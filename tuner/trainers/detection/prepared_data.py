"""What trials of one data set share in a warm process, so that only the first of them pays for it."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from tuner.config.study import DataSpec
from tuner.data.cache import CachedImages, open_caches
from tuner.data.coco import Dataset, load_dataset
from tuner.data.letterbox import Canvas, canvas_for
from tuner.evaluation.coco import CocoEvaluator


@dataclass(frozen=True)
class PreparedData:
    """A data set on one canvas.

    Attributes:
        dataset: All splits.
        canvas: Where the images are letterboxed into.
        train_images: Decoded images of the training split, mapped from the disk.
        val_images: Likewise of the validation split.
        evaluator: Holds the indexed ground truth of the validation split.
    """

    dataset: Dataset
    canvas: Canvas
    train_images: CachedImages
    val_images: CachedImages
    evaluator: CocoEvaluator


@functools.lru_cache(maxsize=4)
def prepared_data(spec: DataSpec, image_size: int, cache_dir: Path) -> PreparedData:
    """The data set on the canvas of an image size; the same object for the same arguments while it is kept.

    Raises:
        DataError: The data set is broken, or images cannot be read.
    """
    dataset, evaluator = _indexed(spec)
    canvas = canvas_for(dataset.train.sizes, image_size)
    train_images, val_images = open_caches((dataset.train, dataset.val), canvas, cache_dir)
    return PreparedData(dataset, canvas, train_images, val_images, evaluator)


@functools.lru_cache(maxsize=2)
def _indexed(spec: DataSpec) -> tuple[Dataset, CocoEvaluator]:
    dataset = load_dataset(spec)
    return dataset, CocoEvaluator(dataset.val)
