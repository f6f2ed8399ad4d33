"""The kinds of non-maximum suppression, on flat tensors of many images, on any device.

All take `(boxes, scores, labels, offsets, value, most)` and give `Kept`:

- boxes (P, 4) float, xyxy in pixels; scores (P,) float; labels (P,) int64: only boxes of one label act on each other;
- offsets (N + 1,) int64: the boxes of image i are `offsets[i]:offsets[i + 1]`;
- value: the IoU threshold (of soft-gaussian: sigma); most: detections kept for each image, those of highest score.

A confidence threshold applies to the scores that come out. Whether one run serves every threshold (decision 4 of the
design) depends on the kind:

- greedy, DIoU, none: only higher scores suppress lower ones and scores stay. Cutting before or after is the same.
- greedy with voting: the same boxes with the same scores, but their places hang on all raw boxes, those of low scores,
  too. So the threshold applies to what comes out; cutting beforehand would move boxes.
- Soft-NMS: a box lowers only scores of boxes taken after it, and these are never above its own. So boxes that end
  below the threshold never touch one that ends above it: the result at c is the part of the result at 0 with a
  *lowered* score of at least c. Cutting the raw scores at c beforehand changes nothing, but does not suffice.
- Weighted boxes fusion: low scores pull down the mean of their cluster and move its box. Cutting beforehand is another
  method; the threshold applies to the fused scores only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor
from torchvision.ops import nms

from tuner.config.trial import NmsKind
from tuner.postprocess.fusion import weighted_fusion
from tuner.postprocess.ragged import LOOK_EVERY, TINY, Kept, blocks, image_of, offsets_of, padded, ranked
from tuner.postprocess.voting import voted

_CELLS_PER_BLOCK = {"cpu": 1 << 15, "cuda": 1 << 20}
"""Padded boxes at a time: some 15 float64 arrays of this size."""

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
    rows = [start + _first(spread[start:stop], wide[start:stop], value, most) for start, stop in pairwise(bounds)]
    kept = torch.cat(rows) if rows else offsets[:0]
    counts = torch.tensor([len(r) for r in rows], dtype=torch.int64, device=offsets.device)
    return Kept(kept, boxes[kept].double(), wide[kept], offsets_of(counts))


def _first(boxes: Tensor, scores: Tensor, value: float, most: int) -> Tensor:
    """The first `most` boxes that torchvision's NMS keeps of one image.

    Only boxes of higher score suppress, so what is kept of the best few is what is kept of them among all; mostly
    they are enough.
    """
    few = 4 * most
    if few < len(scores):
        best = torch.argsort(scores, descending=True, stable=True)[:few]
        kept: Tensor = best[nms(boxes[best], scores[best], value)]
        if len(kept) >= most:
            return kept[:most]
    kept = nms(boxes, scores, value)
    return kept[:most]


def greedy_agnostic(boxes: Tensor, scores: Tensor, labels: Tensor, offsets: Tensor, value: float, most: int) -> Kept:
    """Greedy NMS in which boxes suppress those of other classes too."""
    return greedy(boxes, scores, torch.zeros_like(labels), offsets, value, most)


def greedy_voting(boxes: Tensor, scores: Tensor, labels: Tensor, offsets: Tensor, value: float, most: int) -> Kept:
    """Greedy NMS whose detections are then moved by the votes of all raw boxes (`tuner.postprocess.voting`)."""
    kept = greedy(boxes, scores, labels, offsets, value, most)
    return kept._replace(boxes=voted(boxes, scores, labels, offsets, kept.source))


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
        diagonal = width.mul_(width).add_(height.mul_(height)).clamp_(min=TINY)
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


def none(boxes: Tensor, scores: Tensor, labels: Tensor, offsets: Tensor, value: float, most: int) -> Kept:
    """No suppression, for detectors that need none and for detections that are suppressed already."""
    image = image_of(offsets, len(boxes))
    everything = torch.arange(len(boxes), device=boxes.device)
    return ranked(everything, boxes.double(), scores.double(), image, len(offsets) - 1, most)


KINDS: dict[NmsKind, Suppress] = {
    "greedy": greedy,
    "greedy-voting": greedy_voting,
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
    for block in blocks(counts, _CELLS_PER_BLOCK[counts.device.type]):
        index, filled = padded(offsets[:-1][block], counts[block])
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
            if k % LOOK_EVERY == 0 and bool((best == -torch.inf).all()):
                break
            taken[:, k : k + 1], values[:, k : k + 1] = index.gather(1, at), best
            gone.scatter_(1, at, True)
            one = others.gather(2, at.expand(4, -1, -1))
            width = torch.minimum(one[2], others[2]).sub_(torch.maximum(one[0], others[0])).clamp_(min=0)
            height = torch.minimum(one[3], others[3]).sub_(torch.maximum(one[1], others[1])).clamp_(min=0)
            overlap = width.mul_(height)
            union = (areas.gather(1, at) + areas).sub_(overlap).clamp_(min=TINY)
            decay(left, overlap.div_(union), one, others)
            left.masked_fill_(gone, -torch.inf)
        real = values > -torch.inf
        parts.append((taken[real], values[real]))
        kept_counts[block] = real.sum(dim=1)
    source, lowered = (torch.cat(p) for p in zip(*parts, strict=True))
    return Kept(source, boxes[source].double(), lowered, offsets_of(kept_counts))
