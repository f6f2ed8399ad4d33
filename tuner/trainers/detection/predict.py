"""Predictions of a detector for a whole split, as flat arrays in original pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tuner.models.detector import Candidates, Detector
from tuner.models.predictions import RawPredictions
from tuner.trainers.contract import silent
from tuner.trainers.detection.precision import Precision

_Flat = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]


@torch.inference_mode()
def predict(
    detector: Detector,
    batches: Iterable[Tensor],
    placements: NDArray[np.float64],
    sizes: NDArray[np.int32],
    precision: Precision,
    alive: Callable[[], None] = silent,
) -> RawPredictions:
    """Run a detector over letterboxed images.

    A GPU is never waited for before the next batch is on its way to it.

    Args:
        detector: On `precision.device`; put into eval mode.
        batches: (B, 3, H, W) uint8 RGB, together the N images in their order.
        placements: (N, 3) scale, left and top of each image on its canvas (`tuner.data.letterbox.placements`).
        sizes: (N, 2) width and height of the original images in pixels.
        precision: Arithmetic.
        alive: Called for each batch.

    Returns:
        Predictions before suppression, boxes clipped to the images; boxes that lie outside are left out.
    """
    detector.eval()

    def candidates() -> Iterator[Candidates]:
        for images in batches:
            alive()
            yield candidates_of(detector, to_device(images, precision.device), precision)

    return to_original(candidates(), placements, sizes)


def to_device(images: Tensor, device: torch.device) -> Tensor:
    """A batch on a device, through pinned memory, so that the copy does not wait for the device."""
    return images.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else images.to(device)


def candidates_of(detector: Detector, images: Tensor, precision: Precision) -> Candidates:
    """What a detector in eval mode says of a batch that is on its device."""
    with precision.autocast():
        return detector.candidates(images)


def to_original(
    batches: Iterable[Candidates], placements: NDArray[np.float64], sizes: NDArray[np.int32]
) -> RawPredictions:
    """What the candidates of batches say about the images; other arguments as of `predict`.

    A batch is waited for once the next one has been asked for, so that a GPU has work meanwhile.
    """
    parts: list[_Flat] = []
    start = 0
    for candidates in _on_host(batches):
        stop = start + len(candidates.scores)
        parts.append(_to_original(candidates, placements[start:stop], sizes[start:stop]))
        start = stop
    boxes, scores, labels, counts = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return RawPredictions(boxes=boxes, scores=scores, labels=labels, offsets=np.concatenate(([0], np.cumsum(counts))))


def _on_host(batches: Iterable[Candidates]) -> Iterator[Candidates]:
    """The same in the host's memory; each is handed on once the next is on its way."""
    before: Callable[[], Candidates] | None = None
    for candidates in batches:
        now = _sent(candidates)
        if before is not None:
            yield before()
        before = now
    if before is not None:
        yield before()


def _sent(candidates: Candidates) -> Callable[[], Candidates]:
    """Begin to copy candidates to the host; what is returned waits for that, and for nothing begun later."""
    if candidates.scores.device.type != "cuda":
        return lambda: candidates
    copied = Candidates(*(t.to("cpu", non_blocking=True) for t in candidates))  # into pinned memory
    done = torch.cuda.Event()  # type: ignore[no-untyped-call]
    done.record(torch.cuda.current_stream(candidates.scores.device))

    def wait() -> Candidates:
        done.synchronize()
        return copied

    return wait


def _to_original(candidates: Candidates, placements: NDArray[np.float64], sizes: NDArray[np.int32]) -> _Flat:
    """One batch as flat boxes, scores and labels, and the number of boxes of each image."""
    place = placements.astype(np.float32)[:, None]
    limit = np.tile(sizes.astype(np.float32), 2)[:, None]
    boxes = (candidates.boxes.float().numpy() - place[..., [1, 2, 1, 2]]) / place[..., :1]
    boxes = np.minimum(np.maximum(boxes, 0), limit)
    scores = candidates.scores.float().numpy()
    # What is not a number is neither, and stays: whoever uses it refuses it (`RawPredictions.check`).
    keep = ~(scores <= 0) & ~(boxes[..., 2:] <= boxes[..., :2]).any(axis=-1)
    return boxes[keep], scores[keep], candidates.labels.numpy()[keep], keep.sum(axis=1)
