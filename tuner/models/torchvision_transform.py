"""The input transform of torchvision's detectors, for images that already have the size of the canvas."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList


class CanvasTransform(nn.Module):
    """Takes the place of torchvision's `GeneralizedRCNNTransform`: normalises, and neither resizes nor copies.

    Args:
        mean: Of each channel, for pixels in 0 … 1.
        std: Of each channel.
        min_side: Smaller images are padded to the right and below, with the mean.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: list[float], std: list[float], min_side: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1) * 255, persistent=False)
        self.min_side = min_side

    def forward(self, images: Tensor, targets: Any = None) -> tuple[ImageList, Any]:
        """(B, 3, H, W) uint8 to normalised float32; targets stay as they are."""
        height, width = images.shape[-2:]
        normalised = (images.float() - self.mean) / self.std
        padding = (0, max(0, self.min_side - width), 0, max(0, self.min_side - height))
        if any(padding):
            normalised = F.pad(normalised, padding)
        return ImageList(normalised, [(height, width)] * len(images)), targets

    def postprocess(self, result: Any, *_: object) -> Any:
        """What torchvision does to its detections: here nothing."""
        return result
