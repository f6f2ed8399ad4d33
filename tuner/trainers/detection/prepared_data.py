"""What trials of one data set share in a warm process, so that only the first of them pays for it."""

from __future__ import annotations

import functools
import gc
from dataclasses import dataclass
from pathlib import Path

import torch

from tuner.config.alive import SignOfLife, silent
from tuner.config.errors import DiskError
from tuner.config.study import DataSpec
from tuner.data.cache import CachedImages, open_caches
from tuner.data.coco import Dataset, load_dataset
from tuner.data.fingerprint import Fingerprint, refuse_other_data
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


@functools.lru_cache(maxsize=1)  # what is kept here is in use, so that a full disk could not be freed of it
def prepared_data(
    spec: DataSpec,
    image_size: int,
    cache_dir: Path,
    canvas: tuple[int, int] | None = None,
    begun: Fingerprint | None = None,
    alive: SignOfLife = silent,
) -> PreparedData:
    """The data set on a canvas; the same object for the same arguments while it is kept.

    Images are decoded by as many threads as torch computes with.

    Args:
        spec: The data set.
        image_size: Longer side of the canvas that suits the images of the training split, in pixels.
        cache_dir: Folder of the decoded images.
        canvas: Width and height of the canvas where it is not that one.
        begun: The fingerprint that the data set must have; None: any.
        alive: Called for each image that is decoded; an argument like the others, so it should be one for the whole
            process.

    Raises:
        DataError: The data set is broken, or another one, or images cannot be read.
        DiskError: As of `open_cache`.
    """
    dataset, evaluator = _indexed(spec, begun)
    chosen = Canvas(*canvas) if canvas else canvas_for(dataset.train.sizes, image_size)
    # No argument, which would open the images anew for each number of threads.
    threads = torch.get_num_threads()
    prepared = functools.partial(
        open_caches, (dataset.train, dataset.val), chosen, cache_dir, threads=threads, alive=alive
    )
    try:
        train_images, val_images = prepared()
    except DiskError:
        prepared_data.cache_clear()  # and with it the use of those of the trial before
        gc.collect()
        train_images, val_images = prepared()
    return PreparedData(dataset, chosen, train_images, val_images, evaluator)


@functools.lru_cache(maxsize=2)
def _indexed(spec: DataSpec, begun: Fingerprint | None) -> tuple[Dataset, CocoEvaluator]:
    dataset = load_dataset(spec)
    if begun is not None:  # annotations may have changed since the study began, or since another process read them
        refuse_other_data(begun, spec, dataset)
    return dataset, CocoEvaluator(dataset.val)
