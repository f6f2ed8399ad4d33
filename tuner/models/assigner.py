"""Adaptive training sample selection: which anchors answer for which object."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from tuner.models.boxes import iou


class AnchorGrid(NamedTuple):
    """The anchors of one canvas, flattened over levels (finest first), then positions, then shapes.

    Attributes:
        boxes: (N, 4) float32, xyxy in pixels of the letterboxed image.
        lattice: For each level the x of its columns, the y of its rows (pixels) and the anchors at each position.
    """

    boxes: Tensor
    lattice: tuple[tuple[Tensor, Tensor, int], ...]


def atss(grid: AnchorGrid, boxes: Tensor, is_object: Tensor, top_positions: int = 9) -> Tensor:
    """ATSS (Zhang et al., 2020), for a whole batch at once.

    On each level the anchors at the `top_positions` positions nearest to an object's centre are its
    candidates. Those whose IoU is at least the mean plus the standard deviation of all candidates' IoU, and
    whose centre lies in the object, are positive; an anchor that is positive for several objects answers for
    the one it overlaps most. Unlike the paper, the candidate of the highest IoU is always positive, so that
    an object, however small against the stride, goes without only where others overlap its anchors more: of two
    small objects in one cell, one may.

    Args:
        grid: The anchors, N in all.
        boxes: (B, M, 4) objects, xyxy in pixels, padded.
        is_object: (B, M) bool, False in padded rows and crowd regions.
        top_positions: Positions per level, the paper's k.

    Returns:
        (B, N) int64: the row of the object that each anchor answers for, or -1 for background.
    """
    batch, objects = is_object.shape
    centres = (boxes[..., :2] + boxes[..., 2:]) / 2
    anchor_centres = (grid.boxes[:, :2] + grid.boxes[:, 2:]) / 2

    candidates = []
    start = 0
    for x, y, shapes in grid.lattice:
        positions = len(x) * len(y)
        nearest = _nearest_positions(centres, x, y, min(top_positions, positions))
        shape = torch.arange(shapes, device=nearest.device)
        candidates.append((start + nearest[..., None] * shapes + shape).flatten(-2))
        start += positions * shapes
    candidate = torch.cat(candidates, dim=-1)  # (B, M, C)

    overlap = iou(grid.boxes[candidate], boxes[:, :, None])
    threshold = overlap.mean(-1, keepdim=True) + overlap.std(-1, keepdim=True)
    centre = anchor_centres[candidate]
    inside = ((centre > boxes[:, :, None, :2]) & (centre < boxes[:, :, None, 2:])).all(-1)
    positive = (overlap >= threshold) & inside
    best = overlap.argmax(-1, keepdim=True)
    positive.scatter_(-1, best, torch.ones_like(best, dtype=torch.bool))
    positive &= is_object[..., None]

    # Each anchor's best overlap, then the row that has it (of equals the first): over candidates, not all pairs.
    # 1 is added to the IoU so that a positive anchor without any overlap still differs from background.
    anchor = candidate.flatten(1)
    value = torch.where(positive, overlap + 1, 0.0).flatten(1)
    best_value = value.new_zeros(batch, len(grid.boxes)).scatter_reduce(1, anchor, value, "amax")
    row = torch.arange(objects, device=anchor.device).repeat_interleave(candidate.shape[-1]).expand_as(anchor)
    row = torch.where((value > 0) & (value == best_value.gather(1, anchor)), row, objects)
    owner = torch.full_like(best_value, objects, dtype=torch.int64).scatter_reduce(1, anchor, row, "amin")
    return torch.where(owner < objects, owner, -1)


def _nearest_positions(centres: Tensor, x: Tensor, y: Tensor, most: int) -> Tensor:
    """(B, M, most) int64: the positions of a lattice, counted row by row, that are nearest to (B, M, 2) centres.

    They lie where the `most` nearest columns and the `most` nearest rows cross, so that only these distances are
    computed: with a thousand objects in an image, all of them are gigabytes.
    """
    column = (x - centres[..., :1]).square().topk(min(most, len(x)), largest=False)
    row = (y - centres[..., 1:]).square().topk(min(most, len(y)), largest=False)
    distance = (row.values[..., None] + column.values[..., None, :]).flatten(-2)
    position = (row.indices[..., None] * len(x) + column.indices[..., None, :]).flatten(-2)
    return position.gather(-1, distance.topk(most, largest=False).indices)
