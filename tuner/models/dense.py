"""`dense`: the project's own single-stage, anchor-based detector, free of Python loops over images or boxes."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from tuner.config.trial import AnchorSizes
from tuner.data.batch import IGNORE
from tuner.models.assigner import AnchorGrid, atss
from tuner.models.boxes import decode, giou
from tuner.models.dense_network import DenseNetwork
from tuner.models.detector import Candidates, Detector, best_pairs
from tuner.models.losses import quality_focal_loss

BOX_WEIGHT = 2.0
"""Weight of the box loss against the class loss."""


class DenseDetector(Detector):
    """A `DenseNetwork` with ATSS, quality focal loss and GIoU loss (Zhang et al., 2020; Li et al., 2020).

    Args:
        network: The bare network.
        anchor_sizes: (width, height) pairs in pixels per level, as many as the network's head has.
        strides: Stride of each level in pixels.
    """

    def __init__(self, network: DenseNetwork, anchor_sizes: AnchorSizes, strides: tuple[int, ...]) -> None:
        super().__init__()
        self.network = network
        self.anchor_sizes = anchor_sizes
        self.strides = strides
        self._grid = functools.lru_cache(maxsize=4)(functools.partial(anchor_grid, anchor_sizes, strides))

    @property
    def backbone(self) -> nn.Module:
        """See `Detector.backbone`."""
        return self.network.trunk

    def losses(self, images: Tensor, boxes: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """See `Detector.losses`; the terms are `class`, per positive anchor, and `box`, per unit of their weight."""
        logits, deltas = self.network(_scaled(images))
        with torch.autocast(images.device.type, enabled=False):
            return self._losses(logits, deltas, boxes, labels, self._grid(*images.shape[-2:], images.device))

    def _losses(
        self, logits: Tensor, deltas: Tensor, boxes: Tensor, labels: Tensor, grid: AnchorGrid
    ) -> dict[str, Tensor]:
        row = atss(grid, boxes, labels >= 0)
        positive = row >= 0
        row = row.clamp(min=0)
        target = boxes.gather(1, row[..., None].expand(-1, -1, 4))
        similarity, overlap = giou(decode(deltas, grid.boxes), target)

        quality = torch.where(positive, overlap.detach(), 0.0)
        label = labels.gather(1, row).clamp(min=0)
        class_quality = torch.zeros_like(logits).scatter_(-1, label[..., None], quality[..., None])
        class_loss = quality_focal_loss(logits, class_quality).sum(-1)
        in_crowd = _centre_in_crowd(grid, boxes, labels == IGNORE)
        class_loss = torch.where(in_crowd & ~positive, 0.0, class_loss).sum()

        weight = _box_weight(logits.detach(), positive)
        box_loss = ((1 - similarity) * weight).sum() / weight.sum().clamp(min=1.0)
        return {
            "class": class_loss / positive.sum().clamp(min=1.0),
            "box": BOX_WEIGHT * box_loss,
        }

    def divisors(self, images: Tensor, boxes: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """See `Detector.divisors`: the number of positive anchors, and the sum of their weights, which scores make."""
        logits, _ = self.network(_scaled(images))
        with torch.autocast(images.device.type, enabled=False):
            positive = atss(self._grid(*images.shape[-2:], images.device), boxes, labels >= 0) >= 0
            return {"class": positive.sum(), "box": _box_weight(logits, positive).sum()}

    def candidates(self, images: Tensor) -> Candidates:
        """See `Detector.candidates`: the best (anchor, class) pairs of each image."""
        logits, deltas = self.network(_scaled(images))
        boxes = decode(deltas, self._grid(*images.shape[-2:], images.device).boxes)
        scores, anchor, labels = best_pairs(logits.sigmoid(), self.max_candidates)
        return Candidates(boxes.gather(1, anchor[..., None].expand(-1, -1, 4)), scores, labels)


def anchor_grid(
    anchor_sizes: AnchorSizes, strides: tuple[int, ...], height: int, width: int, device: torch.device
) -> AnchorGrid:
    """Anchors centred on the cells of each level of a canvas of height x width pixels."""
    levels = []
    lattice = []
    for sizes, stride in zip(anchor_sizes, strides, strict=True):
        x = (torch.arange(width // stride, device=device) + 0.5) * stride
        y = (torch.arange(height // stride, device=device) + 0.5) * stride
        centre = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).view(-1, 1, 2)
        half = torch.tensor(sizes, dtype=torch.float32, device=device) / 2
        levels.append(torch.cat((centre - half, centre + half), dim=-1).view(-1, 4))
        lattice.append((x, y, len(sizes)))
    return AnchorGrid(torch.cat(levels), tuple(lattice))


def _centre_in_crowd(grid: AnchorGrid, boxes: Tensor, is_crowd: Tensor) -> Tensor:
    """(B, N) bool: whether an anchor's centre lies in one of the (B, M) boxes that are crowd regions.

    Anchors stand on a lattice, so rows and columns are tested apart and joined by one product per level:
    N + M values instead of N * M.
    """
    levels = []
    for x, y, shapes in grid.lattice:
        columns = (x > boxes[..., 0, None]) & (x < boxes[..., 2, None]) & is_crowd[..., None]
        rows = (y > boxes[..., 1, None]) & (y < boxes[..., 3, None])
        inside = torch.einsum("bmy,bmx->byx", rows.float(), columns.float()) > 0
        levels.append(inside.flatten(1).repeat_interleave(shapes, dim=1))
    return torch.cat(levels, dim=1)


def _box_weight(logits: Tensor, positive: Tensor) -> Tensor:
    """(B, N) weight of each anchor's box loss, from (B, N, K) class logits.

    A box counts as much as its score would: well-placed anchors teach the box branch (as in GFL).
    """
    return torch.where(positive, logits.sigmoid().amax(-1).clamp(min=0.05), 0.0)


def _scaled(images: Tensor) -> Tensor:
    return images.float().mul_(1 / 255)
