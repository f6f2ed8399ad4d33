"""The kinds of non-maximum suppression, on flat tensors of many images, on any device.

All take `(boxes, scores, labels, offsets, value, most)` and give `Kept`:

- boxes (P, 4) float, xyxy in pixels; scores (P,) float; labels (P,) int64: only boxes of one label act on each other;
- offsets (N + 1,) int64: the boxes of image i are `offsets[i]:offsets[i + 1]`;
- value: the IoU threshold (of soft-gaussian: sigma); most: detections kept for each image, those of highest score.

A confidence threshold applies to the scores that come out. Whether one run serves every threshold (decision 4 of the
design) depends on the kind:

- greedy, DIoU, none: only higher scores suppress lower ones and scores stay. Cutting before or after is the same.
- Soft-NMS: a box lowers only scores of boxes taken after it, and these are never above its own. So boxes that end
  below the threshold never touch one that ends above it: the result at c is the part of the result at 0 with a
  *lowered* score of at least c. Cutting the raw scores at c beforehand changes nothing, but does not suffice.
- Weighted boxes fusion: low scores pull down the mean of their cluster and move its box. Cutting beforehand is another
  method; the threshold applies to the fused scores only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import nms

from tuner.config.trial import NmsKind

_CELLS_PER_BLOCK = {"cpu": 1 << 15, "cuda": 1 << 22}  # padded boxes at a time: some 15 float64 arrays of this size
_LOOK_EVERY = 8
"""Rounds between looks at how far all images are; each look waits for the device."""
_TINY = 1e-300


class Kept(NamedTuple):
    """What is left, by descending score within each image, ties in the order of the input.

    Attributes:
        source: (Q,) int64, the box that each comes from (of fused ones: that of highest score).
        boxes: (Q, 4) float64.
        scores: (Q,) float64.
        offsets: (N + 1,) int64.
    """

    source: Tensor
    boxes: Tensor
    scores: Tensor
    offsets: Tensor


Suppress = Callable[[Tensor, Tensor, Tensor, Tensor, float, int], Kept]
_Decay = Callable[[Tensor, Tensor, Tensor, Tensor], None]


def greedy(boxes: Tensor, scores: Tensor, labels: Tensor, offsets: Tensor, value: float, most: int) -> Kept:
    """Greedy NMS: a box goes when its IoU with a kept box of higher score is above `value`; 1.0 switches it off.

    On a CPU torchvision's, image by image. On a GPU all images of a block together: a call for each image would wait
    for the device each time, and torchvision's CUDA kernel rounds the threshold to float32, so that two boxes with an
    IoU of 0.7 suppress each other at 0.7 there.
    """
    return (_greedy_by_image if boxes.device.type == "cpu" else _greedy_together)(
        boxes, scores, labels, offsets, value, most
    )


def _greedy_together(boxes: Tensor, scores: Tensor, labels: Tensor, offsets: Tensor, value: float, most: int) -> Kept:
    def decay(left: Tensor, iou: Tensor, one: Tensor, others: Tensor) -> None:
        left.masked_fill_(iou > value, -torch.inf)

    return _take_one_by_one(boxes, scores, labels, offsets, most, decay)


def _greedy_by_image(boxes: Tensor, scores: Tensor, labels: Tensor, offsets: Tensor, value: float, most: int) -> Kept:
    spread, wide = apart(boxes, labels), scores.double()
    bounds = offsets.tolist()
    rows = [start + nms(spread[start:stop], wide[start:stop], value)[:most] for start, stop in pairwise(bounds)]
    kept = torch.cat(rows) if rows else offsets[:0]
    counts = torch.tensor([len(r) for r in rows], dtype=torch.int64, device=offsets.device)
    return Kept(kept, boxes[kept].double(), wide[kept], _offsets(counts))


def greedy_agnostic(boxes: Tensor, scores: Tensor, labels: Tensor, offsets: Tensor, value: float, most: int) -> Kept:
    """Greedy NMS in which boxes suppress those of other classes too."""
    return greedy(boxes, scores, torch.zeros_like(labels), offsets, value, most)


def diou(boxes: Tensor, scores: Tensor, labels: Tensor, offsets: Tensor, value: float, most: int) -> Kept:
    """DIoU-NMS (Zheng et al. 2020, "Distance-IoU loss", eq. 9): greedy, by IoU less the distance of the centres.

    A box goes when IoU - d²/c² with a kept box of higher score is at least `value` (d: between the centres, c: the
    diagonal of the smallest box around both).
    """

    def decay(left: Tensor, iou: Tensor, one: Tensor, others: Tensor) -> None:
        width = torch.maximum(one[2], others[2]) - torch.minimum(one[0], others[0])
        height = torch.maximum(one[3], others[3]) - torch.minimum(one[1], others[1])
        dx = ((one[0] + one[2]) - (others[0] + others[2])).div_(2)
        dy = ((one[1] + one[3]) - (others[1] + others[3])).div_(2)
        diagonal = width.mul_(width).add_(height.mul_(height)).clamp_(min=_TINY)
        left.masked_fill_(iou - dx.mul_(dx).add_(dy.mul_(dy)).div_(diagonal) >= value, -torch.inf)

    return _take_one_by_one(boxes, scores, labels, offsets, most, decay)


def soft_linear(boxes: Tensor, scores: Tensor, labels: Tensor, offsets: Tensor, value: float, most: int) -> Kept:
    """Linear Soft-NMS (Bodla et al. 2017): scores are multiplied by 1 - IoU where IoU is at least `value`."""

    def decay(left: Tensor, iou: Tensor, one: Tensor, others: Tensor) -> None:
        left.mul_(torch.where(iou >= value, 1 - iou, 1.0))

    return _take_one_by_one(boxes, scores, labels, offsets, most, decay)


def soft_gaussian(boxes: Tensor, scores: Tensor, labels: Tensor, offsets: Tensor, value: float, most: int) -> Kept:
    """Gaussian Soft-NMS (Bodla et al. 2017): scores are multiplied by exp(-IoU² / sigma), sigma being `value`."""

    def decay(left: Tensor, iou: Tensor, one: Tensor, others: Tensor) -> None:
        left.mul_(iou.mul_(iou).div_(-value).exp_())

    return _take_one_by_one(boxes, scores, labels, offsets, most, decay)


def weighted_fusion(boxes: Tensor, scores: Tensor, labels: Tensor, offsets: Tensor, value: float, most: int) -> Kept:
    """Weighted boxes fusion (Solovyev et al. 2021) of a single model's boxes.

    By descending score, a box joins the cluster whose fused box it overlaps most, if by more than `value` (of equals
    the oldest), or founds a new one. A fused box is the mean of its members weighted by score; its score is their
    mean. The paper's correction by the number of models is 1 for one model.
    """
    exact, wide = boxes.double(), scores.double()
    image = torch.repeat_interleave(torch.arange(len(offsets) - 1, device=offsets.device), offsets.diff())
    group = image * (int(labels.max()) + 1 if len(labels) else 1) + labels
    order = torch.argsort(wide, descending=True, stable=True)
    order = order[torch.argsort(group[order], stable=True)]
    sizes = torch.unique_consecutive(group[order], return_counts=True)[1]
    begins = sizes.cumsum(0) - sizes
    by_size = torch.argsort(sizes, descending=True, stable=True)
    found = [(order[:0], exact[:0], wide[:0])]
    for block in _blocks(sizes[by_size]):
        rows = by_size[block]
        index, filled = _padded(begins[rows], sizes[rows])
        found.append(_fuse(exact, wide, order[index.clamp_(max=len(order) - 1)], filled, sizes[rows].tolist(), value))
    source, fused, mean = (torch.cat(parts) for parts in zip(*found, strict=True))
    return _ranked(source, fused, mean, image, len(offsets) - 1, most)


def none(boxes: Tensor, scores: Tensor, labels: Tensor, offsets: Tensor, value: float, most: int) -> Kept:
    """No suppression, for detectors that need none and for detections that are suppressed already."""
    image = torch.repeat_interleave(torch.arange(len(offsets) - 1, device=offsets.device), offsets.diff())
    everything = torch.arange(len(boxes), device=boxes.device)
    return _ranked(everything, boxes.double(), scores.double(), image, len(offsets) - 1, most)


KINDS: dict[NmsKind, Suppress] = {
    "greedy": greedy,
    "greedy-agnostic": greedy_agnostic,
    "diou": diou,
    "soft-linear": soft_linear,
    "soft-gaussian": soft_gaussian,
    "wbf": weighted_fusion,
    "none": none,
}


def apart(boxes: Tensor, groups: Tensor) -> Tensor:
    """Boxes in float64, each group moved to a place of its own.

    Steps are a power of two, so that the sum of a float32 coordinate and an offset is exact in float64's 53 bits (for
    all but coordinates next to 0, which lose less than 1e-9 pixels). In float32, as in torchvision's `batched_nms`,
    80 classes in an image of 2,000 pixels would round to 1/64 pixel.
    """
    wide = boxes.double()
    if not len(wide):
        return wide
    low, high = torch.stack(torch.aminmax(wide)).tolist()
    # By the host: a device's power function need not be exact.
    step = math.ldexp(1.0, math.ceil(math.log2(high - low + 2.0)))
    return wide + (groups.double() * step)[:, None]


def _take_one_by_one(boxes: Tensor, scores: Tensor, labels: Tensor, offsets: Tensor, most: int, decay: _Decay) -> Kept:
    """Take the box of highest score left, let it decay the others, and repeat, in all images of a block at once.

    Each image needs as many rounds as it has detections to keep: boxes below the cap never touch those above it.
    """
    spread, wide, counts = apart(boxes, labels), scores.double(), offsets.diff()
    parts = [(offsets[:0], wide[:0])]
    kept_counts = torch.zeros_like(counts)
    for block in _blocks(counts):
        index, filled = _padded(offsets[:-1][block], counts[block])
        index.clamp_(max=max(len(boxes) - 1, 0))
        others = spread[index].permute(2, 0, 1).contiguous() if index.numel() else spread.new_zeros(4, *index.shape)
        left = torch.where(filled, wide[index], -torch.inf) if index.numel() else wide.new_zeros(index.shape)
        gone = ~filled
        areas = (others[2] - others[0]) * (others[3] - others[1])
        rounds = min(most, index.shape[1])
        taken = index.new_zeros(len(index), rounds)
        values = left.new_full((len(index), rounds), -torch.inf)
        for k in range(rounds):
            best, at = left.max(dim=1, keepdim=True)  # of equals the first
            if k % _LOOK_EVERY == 0 and bool((best == -torch.inf).all()):
                break
            taken[:, k : k + 1], values[:, k : k + 1] = index.gather(1, at), best
            gone.scatter_(1, at, True)
            one = others.gather(2, at.expand(4, -1, -1))
            width = torch.minimum(one[2], others[2]).sub_(torch.maximum(one[0], others[0])).clamp_(min=0)
            height = torch.minimum(one[3], others[3]).sub_(torch.maximum(one[1], others[1])).clamp_(min=0)
            overlap = width.mul_(height)
            union = (areas.gather(1, at) + areas).sub_(overlap).clamp_(min=_TINY)
            decay(left, overlap.div_(union), one, others)
            left.masked_fill_(gone, -torch.inf)
        real = values > -torch.inf
        parts.append((taken[real], values[real]))
        kept_counts[block] = real.sum(dim=1)
    source, lowered = (torch.cat(p) for p in zip(*parts, strict=True))
    return Kept(source, boxes[source].double(), lowered, _offsets(kept_counts))


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
    members, weights = boxes[rows].permute(2, 0, 1).contiguous(), scores[rows]
    fused, sums = torch.zeros_like(members), torch.zeros_like(members)
    weight, number = torch.zeros_like(weights), torch.zeros_like(weights)
    first, clusters = torch.zeros_like(rows), rows.new_zeros(len(rows))
    groups = torch.arange(len(rows), device=rows.device)
    active, width = len(sizes), 0
    for k in range(sizes[0]):
        while sizes[active - 1] <= k:
            active -= 1
        if k % _LOOK_EVERY == 0:
            width = int(clusters.max())  # no group has more clusters; each look waits for the device
        box, score, row = members[:, :active, k], weights[:active, k], groups[:active]
        slot = clusters[:active].clone()
        if width:
            best, at = _iou(box[..., None], fused[:, :active, :width]).max(dim=1)
            slot = torch.where(best > value, at, slot)
        width += 1
        new = slot == clusters[:active]
        clusters[:active] += new
        first[row, slot] = torch.where(new, rows[:active, k], first[row, slot])
        sums[:, row, slot] += box * score
        weight[row, slot] += score
        number[row, slot] += 1
        total = weight[row, slot]
        # A cluster without any weight, all scores being 0, stays where its first box is.
        standing = torch.where(new, box, fused[:, row, slot])
        fused[:, row, slot] = torch.where(total > 0, sums[:, row, slot] / total.clamp(min=_TINY), standing)
    real = number > 0
    return first[real], fused.permute(1, 2, 0)[real], weight[real] / number[real]


def _iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of boxes whose coordinates are the first dimension; 0 where they only touch."""
    width = (torch.minimum(a[2], b[2]) - torch.maximum(a[0], b[0])).clamp_(min=0)
    height = (torch.minimum(a[3], b[3]) - torch.maximum(a[1], b[1])).clamp_(min=0)
    overlap = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - overlap
    return overlap / union.clamp_(min=_TINY)


def _ranked(source: Tensor, boxes: Tensor, scores: Tensor, image: Tensor, images: int, most: int) -> Kept:
    """Sort by image and descending score (of equals by `source`), keep the first `most` of each image."""
    order = torch.argsort(source)
    order = order[torch.argsort(scores[order], descending=True, stable=True)]
    order = order[torch.argsort(image[source[order]], stable=True)]
    counts = torch.bincount(image[source], minlength=images)
    begins = torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    order = order[torch.arange(len(order), device=order.device) - begins < most]
    return Kept(source[order], boxes[order], scores[order], _offsets(counts.clamp(max=most)))


def _offsets(counts: Tensor) -> Tensor:
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def _padded(begins: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """(B, M) indices from each begin on, and which of them are not padding."""
    longest = int(sizes.max()) if len(sizes) else 0
    place = torch.arange(longest, device=sizes.device)
    return begins[:, None] + place, place < sizes[:, None]


def _blocks(sizes: Tensor) -> Iterator[slice]:
    """Slices of runs whose padded form has about `_CELLS_PER_BLOCK` cells, at least one run."""
    most = _CELLS_PER_BLOCK[sizes.device.type]
    start, longest = 0, 0
    lengths = sizes.tolist()
    for i, length in enumerate(lengths):
        longest = max(longest, length)
        if i > start and longest * (i + 1 - start) > most:
            yield slice(start, i)
            start, longest = i, length
    if lengths:
        yield slice(start, len(lengths))
