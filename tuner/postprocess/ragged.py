"""Boxes of many images in one array, as padded rows of blocks of images, and back. Any device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

LOOK_EVERY = 8
"""Rounds of a loop between looks at how far all rows are; each look waits for the device."""
TINY = 1e-300
"""Stands for 0 where something is divided by."""


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


def ranked(source: Tensor, boxes: Tensor, scores: Tensor, image: Tensor, images: int, most: int) -> Kept:
    """Sort by image and descending score (of equals by `source`), keep the first `most` of each image."""
    order = torch.argsort(source)
    order = order[torch.argsort(scores[order], descending=True, stable=True)]
    order = order[torch.argsort(image[source[order]], stable=True)]
    counts = torch.bincount(image[source], minlength=images)
    begins = torch.repeat_interleave(counts.cumsum(0) - counts, counts, output_size=len(order))
    order = order[torch.arange(len(order), device=order.device) - begins < most]
    return Kept(source[order], boxes[order], scores[order], offsets_of(counts.clamp(max=most)))


def image_of(offsets: Tensor, count: int) -> Tensor:
    """(count,) the image of each box, from (N + 1,) where the boxes of each image begin and end."""
    return torch.repeat_interleave(
        torch.arange(len(offsets) - 1, device=offsets.device), offsets.diff(), output_size=count
    )


def offsets_of(counts: Tensor) -> Tensor:
    """(N + 1,) where the boxes of each image begin and end, from (N,) counts."""
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def padded(begins: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """(B, M) indices from each begin on, and which of them are not padding."""
    longest = int(sizes.max()) if len(sizes) else 0
    place = torch.arange(longest, device=sizes.device)
    return begins[:, None] + place, place < sizes[:, None]


def blocks(sizes: Tensor, most: int) -> Iterator[slice]:
    """Slices of runs whose padded form has at most `most` cells, but at least one run each."""
    start, longest = 0, 0
    lengths = sizes.tolist()
    for i, length in enumerate(lengths):
        longest = max(longest, length)
        if i > start and longest * (i + 1 - start) > most:
            yield slice(start, i)
            start, longest = i, length
    if lengths:
        yield slice(start, len(lengths))
