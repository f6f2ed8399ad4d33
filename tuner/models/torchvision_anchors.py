"""Anchor generators for torchvision's detectors that hold exactly the given anchors, always in float32.

torchvision's own round their anchors and take their dtype from the feature maps, so that under
bfloat16 autocast anchors move by pixels.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from tuner.config.trial import AnchorSizes


class ExplicitAnchors(AnchorGenerator):  # type: ignore[misc]
    """Given anchors centred on the upper left corners of cells, as Faster R-CNN, RetinaNet and FCOS place them.

    Args:
        anchor_sizes: (width, height) pairs in pixels per level, equally many at each.
    """

    def __init__(self, anchor_sizes: AnchorSizes) -> None:
        # One size for each anchor with one ratio, so that the generator counts them right.
        super().__init__(
            sizes=tuple((1.0,) * len(level) for level in anchor_sizes), aspect_ratios=((1.0,),) * len(anchor_sizes)
        )
        self.cell_anchors = []
        for level in anchor_sizes:
            half = torch.tensor(level, dtype=torch.float32) / 2
            self.cell_anchors.append(torch.cat((-half, half), dim=1))

    def set_cell_anchors(self, dtype: torch.dtype, device: torch.device) -> None:
        """Move the anchors to the device, whatever the dtype of the features."""
        super().set_cell_anchors(torch.float32, device)


class ExplicitDefaultBoxes(nn.Module):
    """Given anchors centred on cells, as SSD places them; takes the place of `DefaultBoxGenerator`.

    Args:
        anchor_sizes: (width, height) pairs in pixels per level; their number may differ.
    """

    def __init__(self, anchor_sizes: AnchorSizes) -> None:
        super().__init__()
        self.anchor_sizes = anchor_sizes
        self._anchors = functools.lru_cache(maxsize=4)(self._make)  # making them waits for the device

    def num_anchors_per_location(self) -> list[int]:
        """Anchors at a position of each level."""
        return [len(level) for level in self.anchor_sizes]

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """For each image the same (N, 4) float32 xyxy anchors, ordered by level, position, anchor."""
        images = image_list.tensors
        shapes = tuple((int(f.shape[-2]), int(f.shape[-1])) for f in feature_maps)
        anchors = self._anchors(images.shape[-2], images.shape[-1], shapes, images.device)
        return [anchors] * len(image_list.image_sizes)

    @torch.inference_mode(False)  # made in an evaluation, they serve training too
    def _make(self, height: int, width: int, shapes: tuple[tuple[int, int], ...], device: torch.device) -> Tensor:
        levels = []
        for sizes, (rows, columns) in zip(self.anchor_sizes, shapes, strict=True):
            x = (torch.arange(columns, device=device) + 0.5) * (width / columns)
            y = (torch.arange(rows, device=device) + 0.5) * (height / rows)
            centre = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).view(-1, 1, 2)
            half = torch.tensor(sizes, dtype=torch.float32, device=device) / 2
            levels.append(torch.cat((centre - half, centre + half), dim=-1).view(-1, 4))
        return torch.cat(levels)
