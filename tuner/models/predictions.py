"""Predictions of a whole split as flat arrays: before (`RawPredictions`) and after (`Detections`) suppression."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class _FlatBoxes:
    """Boxes of N images in one array, grouped by image, by descending score within an image.

    Attributes:
        boxes: (P, 4) float32, xyxy in pixels of the original image, clipped to it.
        scores: (P,) float32 in 0 … 1.
        labels: (P,) int64, class indices 0 … K-1.
        offsets: (N + 1,) int64; the boxes of image i are `offsets[i]:offsets[i + 1]`.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    offsets: NDArray[np.int64]

    @property
    def image_index(self) -> NDArray[np.int64]:
        """(P,) int64, the index of the image that each box lies in."""
        return np.repeat(np.arange(len(self.offsets) - 1, dtype=np.int64), np.diff(self.offsets))


class RawPredictions(_FlatBoxes):
    """What the detector says before non-maximum suppression and before any confidence threshold."""


class Detections(_FlatBoxes):
    """What is left after non-maximum suppression."""
