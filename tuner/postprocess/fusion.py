"""Weighted boxes fusion: boxes that overlap become their mean. Any device."""

from __future__ import annotations

import torch
from torch import Tensor

from tuner.postprocess.ragged import LOOK_EVERY, TINY, Kept, blocks, image_of, padded, ranked

_CELLS_PER_BLOCK = {"cpu": 1 << 17, "cuda": 1 << 20}
"""Padded boxes at a time: some 20 float64 arrays of this size. Rounds cost the same for few groups as for many."""


def weighted_fusion(boxes: Tensor, scores: Tensor, labels: Tensor, offsets: Tensor, value: float, most: int) -> Kept:
    """Weighted boxes fusion (Solovyev et al. 2021) of a single model's boxes.

    By descending score, a box joins the cluster whose fused box it overlaps most, if by more than `value` (of equals
    the oldest), or founds a new one. A fused box is the mean of its members weighted by score; its score is their
    mean. The paper's correction by the number of models is 1 for one model.
    """
    exact, wide = boxes.double(), scores.double()
    image = image_of(offsets, len(boxes))
    group = image * (int(labels.max()) + 1 if len(labels) else 1) + labels
    order = torch.argsort(wide, descending=True, stable=True)
    order = order[torch.argsort(group[order], stable=True)]
    sizes = torch.unique_consecutive(group[order], return_counts=True)[1]
    begins = sizes.cumsum(0) - sizes
    by_size = torch.argsort(sizes, descending=True, stable=True)
    found = [(order[:0], exact[:0], wide[:0])]
    for block in blocks(sizes[by_size], _CELLS_PER_BLOCK[sizes.device.type]):
        rows = by_size[block]
        index, filled = padded(begins[rows], sizes[rows])
        found.append(_fuse(exact, wide, order[index.clamp_(max=len(order) - 1)], filled, sizes[rows].tolist(), value))
    source, fused, mean = (torch.cat(parts) for parts in zip(*found, strict=True))
    return ranked(source, fused, mean, image, len(offsets) - 1, most)


def _fuse(
    boxes: Tensor, scores: Tensor, rows: Tensor, filled: Tensor, sizes: list[int], value: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Fuse the boxes of G groups, one of each group at a time.

    Args:
        boxes: (P, 4) float64.
        scores: (P,) float64.
        rows: (G, S) int64, the boxes of each group by descending score, padded.
        filled: (G, S) bool, what is not padding.
        sizes: Of the groups, descending.
        value: IoU threshold.

    Returns:
        First member (C,), fused boxes (C, 4) and mean scores (C,) of all clusters.
    """
    groups, longest = rows.shape
    members, weights = boxes[rows].permute(2, 0, 1).contiguous(), scores[rows]
    areas = (members[2] - members[0]) * (members[3] - members[1])
    summands = torch.cat([members * weights, weights[None]])
    sums = torch.zeros_like(summands)  # of the members of each cluster: weighted boxes, and weights
    fused = torch.zeros_like(summands)  # boxes, and their areas
    flat_sums, flat_fused = sums.flatten(1), fused.flatten(1)
    slots = torch.zeros_like(rows)  # the cluster that each box joins
    clusters = rows.new_zeros(groups)
    begins = torch.arange(groups, device=rows.device) * longest
    active, width = groups, 0
    for k in range(longest):
        while sizes[active - 1] <= k:
            active -= 1
        if k % LOOK_EVERY == 0:
            width = int(clusters.max())  # no group has more clusters; each look waits for the device
        box, number = members[:, :active, k], clusters[:active]
        slot = slots[:active, k]
        if width:
            best, at = _iou(box[..., None], areas[:active, k, None], fused[:, :active, :width]).max(dim=1)
            slot.copy_(torch.where(best > value, at, number))
        width += 1
        place = begins[:active] + slot
        total = flat_sums[:, place] + summands[:, :active, k]
        flat_sums.index_copy_(1, place, total)
        # A cluster without any weight, all scores being 0, stays where its first box is.
        standing = torch.where(slot == number, box, flat_fused[:4, place])
        mean = torch.where(total[4] > 0, total[:4] / total[4].clamp(min=TINY), standing)
        area = (mean[2] - mean[0]) * (mean[3] - mean[1])
        flat_fused.index_copy_(1, place, torch.cat([mean, area[None]]))
        number += slot == number
    place = (begins[:, None] + slots)[filled]
    members_of = torch.bincount(place, minlength=groups * longest)
    real = members_of > 0
    first = torch.full_like(members_of, longest).scatter_reduce(
        0, place, torch.arange(longest, device=rows.device).expand_as(rows)[filled], "amin"
    )
    source = rows.flatten()[(torch.arange(len(first), device=rows.device) // longest * longest + first)[real]]
    return source, flat_fused[:4, real].T, flat_sums[4, real] / members_of[real]


def _iou(box: Tensor, area: Tensor, others: Tensor) -> Tensor:
    """(A, W) IoU of boxes with the fused boxes of their groups; 0 where they only touch.

    Args:
        box: (4, A, 1) xyxy.
        area: (A, 1).
        others: (5, A, W) xyxy and area.
    """
    width = torch.minimum(box[2], others[2]).sub_(torch.maximum(box[0], others[0])).clamp_(min=0)
    height = torch.minimum(box[3], others[3]).sub_(torch.maximum(box[1], others[1])).clamp_(min=0)
    overlap = width.mul_(height)
    return overlap.div_((area + others[4]).sub_(overlap).clamp_(min=TINY))
