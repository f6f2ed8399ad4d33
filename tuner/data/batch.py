"""`Batch`: what the loader hands to the training step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

PADDING = -1
"""Label of a row that holds no box."""
IGNORE = -2
"""Label of a crowd region: neither object nor background in training."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Letterboxed, augmented images with their boxes, padded to one number of rows.

    Attributes:
        images: (B, 3, H, W) uint8, RGB, channels-last in memory.
        boxes: (B, M, 4) float32, xyxy in pixels of the letterboxed image; zeros in padded rows.
        labels: (B, M) int64, class indices 0 … K-1, `PADDING` or `IGNORE`.
    """

    images: Tensor
    boxes: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> Batch:
        """The batch on a device, copied without a host-device synchronisation from pinned memory."""
        return Batch(*(t.to(device, non_blocking=True) for t in (self.images, self.boxes, self.labels)))
