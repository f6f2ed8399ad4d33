"""Batches of cached images: shuffled and augmented for training, in order for evaluation."""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tuner.config.errors import DataError
from tuner.config.trial import Augment
from tuner.data.augment import Augmenter
from tuner.data.batch import IGNORE, PADDING, Batch
from tuner.data.cache import CachedImages
from tuner.data.letterbox import to_canvas
from tuner.data.split import Split

_ROW_STEP = 8
"""Rows of a batch's boxes are rounded up to a multiple of this, so that few tensor shapes occur."""


class TrainingBatches:
    """The training batches of all epochs.

    A batch depends on seed, epoch and its number alone: not on workers, threads or what was asked for before.

    Each epoch is one pass over the split: every image leads exactly one sample (the other three images of a
    mosaic are drawn at random). An epoch has as many batches as images / batch size, rounded up, and the
    images are dealt out evenly, so batches differ by one image at most; none is larger than the batch size,
    none is a tiny rest, and nothing is dropped. A split smaller than the batch size makes one batch.

    Args:
        split: Boxes and classes of the images.
        cached: The split's letterboxed images.
        augment: Random changes; mosaics end with the last `close_mosaic` part of the epochs.
        batch_size: Most images in a batch.
        seed: Of shuffling and augmentation.
        epochs: Full length of the training, for `close_mosaic`.
        workers: Threads that prepare batches ahead; 0 makes them in the calling thread when asked for.
        pin_memory: Put batches into pinned memory, for asynchronous copies to a CUDA device.
    """

    def __init__(
        self,
        split: Split,
        cached: CachedImages,
        augment: Augment,
        batch_size: int,
        seed: int,
        epochs: int,
        *,
        workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        if len(cached) != len(split):
            raise DataError(f"the image cache holds {len(cached)} images, the {split.name} split {len(split)}")
        self._augment = augment
        self._images = np.asarray(cached.images)
        self._content = cached.content
        self._boxes = to_canvas(split.corners, cached.placements[split.image_index])
        self._crowd = split.crowd
        self._labels = np.where(split.crowd, IGNORE, split.labels)
        self._offsets = split.offsets
        self._seed = seed
        self._mosaic_epochs = round(epochs * (1 - augment.close_mosaic))
        self._workers = workers
        self._pin_memory = pin_memory
        self._local = threading.local()
        self.steps_per_epoch = -(-len(split) // batch_size)
        self._epochs = epochs
        self._order = functools.lru_cache(maxsize=2)(self._shuffled)
        self._pool: ThreadPoolExecutor | None = None
        self._ahead: deque[Future[Batch]] = deque()
        self._next = 0

    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[Batch]:
        """The batches of one epoch; with workers, those of the next one are begun as it ends.

        Args:
            epoch: From 0.
            start_batch: Where to start, to go on after an interruption.
        """
        first = epoch * self.steps_per_epoch
        for number in range(first + start_batch, first + self.steps_per_epoch):
            yield self._made_ahead(number) if self._workers else self._make(number)

    def close(self) -> None:
        """End the workers, without what they have made ahead."""
        self._ahead.clear()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def _made_ahead(self, number: int) -> Batch:
        """A batch, while those after it are made; batches are numbered through all epochs."""
        if number != self._next - len(self._ahead):  # not the one that follows
            self.close()
            self._next = number
        self._pool = self._pool or ThreadPoolExecutor(self._workers, thread_name_prefix="batches")
        while len(self._ahead) <= 2 * self._workers and self._next < self._epochs * self.steps_per_epoch:
            self._ahead.append(self._pool.submit(self._make, self._next))
            self._next += 1
        return self._ahead.popleft().result()

    def _shuffled(self, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng((self._seed, epoch)).permutation(len(self._images))

    def _make(self, number: int) -> Batch:
        epoch, batch = divmod(number, self.steps_per_epoch)
        order = self._order(epoch)
        size, larger = divmod(len(order), self.steps_per_epoch)  # the first few batches have one image more
        start = batch * size + min(batch, larger)
        positions = range(start, start + size + (batch < larger))
        augmenter = self._augmenter()
        images = torch.empty((len(positions), *self._images.shape[1:]), dtype=torch.uint8, pin_memory=self._pin_memory)
        pixels = images.numpy()
        samples = [
            augmenter.sample(
                int(order[position]),
                np.random.default_rng((self._seed, epoch, position)),
                mosaic=epoch < self._mosaic_epochs,
                out=pixels[i],
            )
            for i, position in enumerate(positions)
        ]
        rows = max(1, *(len(indices) for _, indices in samples))
        rows = -(-rows // _ROW_STEP) * _ROW_STEP
        boxes = np.zeros((len(samples), rows, 4), np.float32)
        labels = np.full((len(samples), rows), PADDING, np.int64)
        for i, (found, indices) in enumerate(samples):
            boxes[i, : len(indices)] = found
            labels[i, : len(indices)] = self._labels[indices]
        box_tensor, label_tensor = torch.from_numpy(boxes), torch.from_numpy(labels)
        if self._pin_memory:
            box_tensor, label_tensor = box_tensor.pin_memory(), label_tensor.pin_memory()
        return Batch(images.permute(0, 3, 1, 2), box_tensor, label_tensor)

    def _augmenter(self) -> Augmenter:
        """This thread's augmenter."""
        found: Augmenter | None = getattr(self._local, "augmenter", None)
        if found is None:
            found = Augmenter(self._augment, self._images, self._content, self._boxes, self._crowd, self._offsets)
            self._local.augmenter = found
        return found


def evaluation_batches(cached: CachedImages, batch_size: int) -> Iterator[Tensor]:
    """The images of a split in its order, unchanged.

    Args:
        cached: The split's letterboxed images.
        batch_size: Images per batch; the last one may be smaller.

    Yields:
        (B, 3, H, W) uint8, RGB, channels-last in memory.
    """
    for start in range(0, len(cached), batch_size):
        yield torch.from_numpy(np.array(cached.images[start : start + batch_size])).permute(0, 3, 1, 2)
