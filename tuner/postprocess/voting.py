"""Score voting: a detection's box becomes the mean of all boxes that stand for the same object. Any device."""

from __future__ import annotations

import torch
from torch import Tensor

from tuner.models.boxes import iou
from tuner.postprocess.ragged import TINY, blocks, image_of, padded

SIGMA = 0.05
"""How fast a vote fades with 1 - IoU. Kim & Lee 2020 have 0.025; on three data sets, trained for 12 to 54 epochs each,
0.05 was the best of 0.01 to 0.2 or within noise of it."""

_CELLS_PER_BLOCK = {"cpu": 1 << 17, "cuda": 1 << 20}
"""Padded pairs at a time: some 10 float64 arrays of this size."""


def voted(boxes: Tensor, scores: Tensor, labels: Tensor, offsets: Tensor, of: Tensor) -> Tensor:
    """The boxes of some predictions after all predictions of the same image and label have voted.

    Every box that overlaps votes for itself with the weight score · exp(-(1 - IoU)² / `SIGMA`) (Kim & Lee 2020,
    "Probabilistic anchor assignment with IoU prediction for object detection", section 3.3; Gidaris & Komodakis 2015
    call the idea box voting). Only the box changes, and it hangs on the raw predictions alone: not on what else is
    kept, nor on any threshold. So the exact sweep serves it as it serves the suppression before it.

    Args:
        boxes: (P, 4) float, xyxy in pixels.
        scores: (P,) float.
        labels: (P,) int64.
        offsets: (N + 1,) int64: the boxes of image i are `offsets[i]:offsets[i + 1]`.
        of: (Q,) int64, which predictions.

    Returns:
        (Q, 4) float64; a box without any vote, its area or all scores being 0, stays as it is.
    """
    exact, wide = boxes.double(), scores.double()
    image = image_of(offsets, len(boxes))
    group = image * (int(labels.max()) + 1 if len(labels) else 1) + labels
    voters, sizes, begins = _by_group(group, group)
    places, wanted, starts = _by_group(group[of], group)
    groups = wanted.nonzero()[:, 0]
    groups = groups[torch.argsort(sizes[groups], descending=True, stable=True)]
    most = int(wanted.max()) if len(wanted) else 0
    result = exact[of]
    for block in blocks(sizes[groups], _CELLS_PER_BLOCK[of.device.type] // max(most, 1)):
        some = groups[block]
        index, votes = padded(begins[some], sizes[some])
        place, asked = padded(starts[some], wanted[some])
        index, place = voters[index.clamp_(max=len(voters) - 1)], places[place.clamp_(max=len(places) - 1)]
        here, there = exact[of[place]], exact[index]
        weights = _weights(here, there, torch.where(votes, wide[index], 0.0))
        total = weights.sum(dim=2, keepdim=True)
        mean = torch.where(total > 0, weights.bmm(there) / total.clamp(min=TINY), here)
        result[place[asked]] = mean[asked]
    return result


def _by_group(group: Tensor, every: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The order that puts (P,) boxes' groups one after the other, and each group's size and begin there."""
    sizes = torch.bincount(group, minlength=int(every.max()) + 1 if len(every) else 0)
    return torch.argsort(group, stable=True), sizes, sizes.cumsum(0) - sizes


def _weights(boxes: Tensor, others: Tensor, scores: Tensor) -> Tensor:
    """(B, K, M) the weight of each vote, from boxes (B, K, 4), others (B, M, 4) and the latters' scores (B, M)."""
    overlap = iou(boxes[:, :, None], others[:, None])
    fading = (1 - overlap).square_().div_(-SIGMA).exp_()
    return fading.mul_(scores[:, None]).masked_fill_(overlap == 0, 0.0)
