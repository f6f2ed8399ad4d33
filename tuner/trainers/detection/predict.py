"""Predictions of a detector for a whole split, as flat arrays in original pixels."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tuner.models.detector import Candidates, Detector
from tuner.models.predictions import RawPredictions
from tuner.trainers.detection.precision import Precision

_Flat = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]


@torch.inference_mode()
def predict(
    detector: Detector,
    batches: Iterable[Tensor],
    placements: NDArray[np.float64],
    sizes: NDArray[np.int32],
    precision: Precision,
) -> RawPredictions:
    """Run a detector over letterboxed images.

    Args:
        detector: On `precision.device`; put into eval mode.
        batches: (B, 3, H, W) uint8 RGB, together the N images in their order.
        placements: (N, 3) scale, left and top of each image on its canvas (`tuner.data.letterbox.placements`).
        sizes: (N, 2) width and height of the original images in pixels.
        precision: Arithmetic.

    Returns:
        Predictions before suppression, boxes clipped to the images; boxes that lie outside are left out.
    """
    detector.eval()
    on_device = (images.to(precision.device, non_blocking=True) for images in batches)
    return to_original((candidates_of(detector, images, precision) for images in on_device), placements, sizes)


def candidates_of(detector: Detector, images: Tensor, precision: Precision) -> Candidates:
    """What a detector in eval mode says of a batch that is on its device."""
    with precision.autocast():
        return detector.candidates(images)


def to_original(
    batches: Iterable[Candidates], placements: NDArray[np.float64], sizes: NDArray[np.int32]
) -> RawPredictions:
    """What the candidates of batches say about the images; other arguments as of `predict`."""
    parts: list[_Flat] = []
    start = 0
    for candidates in batches:
        stop = start + len(candidates.scores)
        parts.append(_to_original(candidates, placements[start:stop], sizes[start:stop]))
        start = stop
    boxes, scores, labels, counts = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return RawPredictions(boxes=boxes, scores=scores, labels=labels, offsets=np.concatenate(([0], np.cumsum(counts))))


def _to_original(candidates: Candidates, placements: NDArray[np.float64], sizes: NDArray[np.int32]) -> _Flat:
    """One batch as flat boxes, scores and labels, and the number of boxes of each image."""
    device = candidates.boxes.device
    place = torch.as_tensor(placements, dtype=torch.float32, device=device)[:, None]
    limit = torch.as_tensor(sizes, dtype=torch.float32, device=device).repeat(1, 2)[:, None]
    boxes = (candidates.boxes.float() - place[..., [1, 2, 1, 2]]) / place[..., :1]
    boxes = torch.minimum(boxes.clamp(min=0), limit)
    keep = (candidates.scores > 0) & (boxes[..., 2:] > boxes[..., :2]).all(-1)
    return (
        boxes[keep].cpu().numpy(),
        candidates.scores[keep].float().cpu().numpy(),
        candidates.labels[keep].cpu().numpy(),
        keep.sum(1).cpu().numpy(),
    )
