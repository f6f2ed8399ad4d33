"""Predictions of a detector for a whole split, as flat arrays in original pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tuner.config.alive import SignOfLife, silent
from tuner.models.detector import Candidates, Detector
from tuner.models.predictions import RawPredictions
from tuner.trainers.detection.precision import Precision


def predict(
    detector: Detector,
    batches: Iterable[Tensor],
    placements: NDArray[np.float64],
    sizes: NDArray[np.int32],
    precision: Precision,
    alive: SignOfLife = silent,
) -> RawPredictions:
    """Run a detector over letterboxed images.

    A GPU is never waited for before the next batch is on its way to it.

    Args:
        detector: On `precision.device`; put into eval mode.
        batches: (B, 3, H, W) uint8 RGB, together the N images in their order.
        placements: (N, 3) scale, left and top of each image on its canvas (`tuner.data.letterbox.placements`).
        sizes: (N, 2) width and height of the original images in pixels.
        precision: Arithmetic.
        alive: Called for each batch, with how many of the images it is up to.

    Returns:
        Predictions before suppression, boxes clipped to the images; boxes that lie outside are left out.
    """
    return _joined(predict_parts(detector, batches, placements, sizes, precision, alive))


@torch.inference_mode()
def predict_parts(
    detector: Detector,
    batches: Iterable[Tensor],
    placements: NDArray[np.float64],
    sizes: NDArray[np.int32],
    precision: Precision,
    alive: SignOfLife = silent,
) -> Iterator[RawPredictions]:
    """The same, batch by batch, for whoever need not hold all of it."""
    detector.eval()

    def candidates() -> Iterator[Candidates]:
        begun = 0
        for images in batches:
            begun += len(images)
            alive(begun, len(sizes), "evaluating")
            yield candidates_of(detector, to_device(images, precision.device), precision)

    yield from _parts(candidates(), placements, sizes)


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
    return _joined(_parts(batches, placements, sizes))


def _parts(
    batches: Iterable[Candidates], placements: NDArray[np.float64], sizes: NDArray[np.int32]
) -> Iterator[RawPredictions]:
    start = 0
    for candidates in _on_host(batches):
        stop = start + len(candidates.scores)
        yield _to_original(candidates, placements[start:stop], sizes[start:stop])
        start = stop


def _joined(parts: Iterable[RawPredictions]) -> RawPredictions:
    columns = zip(*((part.boxes, part.scores, part.labels, np.diff(part.offsets)) for part in parts), strict=True)
    boxes, scores, labels, counts = map(np.concatenate, columns)
    return RawPredictions(boxes, scores, labels, np.concatenate(([0], np.cumsum(counts))))


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


def _to_original(candidates: Candidates, placements: NDArray[np.float64], sizes: NDArray[np.int32]) -> RawPredictions:
    """What the candidates of one batch say about its images."""
    place = placements.astype(np.float32)[:, None]
    limit = np.tile(sizes.astype(np.float32), 2)[:, None]
    boxes = (candidates.boxes.float().numpy() - place[..., [1, 2, 1, 2]]) / place[..., :1]
    boxes = np.minimum(np.maximum(boxes, 0), limit)
    scores = candidates.scores.float().numpy()
    # What is not a number is neither, and stays: whoever uses it refuses it (`RawPredictions.check`).
    keep = ~(scores <= 0) & ~(boxes[..., 2:] <= boxes[..., :2]).any(axis=-1)
    offsets = np.concatenate(([0], np.cumsum(keep.sum(axis=1))))
    return RawPredictions(boxes[keep], scores[keep], candidates.labels.numpy()[keep], offsets)
