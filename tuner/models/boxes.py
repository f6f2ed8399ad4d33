"""Pure functions on boxes: areas, overlaps, and the coding of boxes against anchors. All in float32."""

from __future__ import annotations

import math

import torch
from torch import Tensor

MAX_LOG_SCALE = math.log(1000.0 / 16.0)
"""Limit of predicted log sizes, as in Faster R-CNN's reference code, so that `exp` cannot overflow."""


def area(boxes: Tensor) -> Tensor:
    """Areas of (..., 4) xyxy boxes in square pixels, shape (...); 0 for inverted boxes."""
    return _product(boxes[..., 2:] - boxes[..., :2])


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of xyxy boxes, element by element with broadcasting.

    Args:
        a: (..., 4).
        b: (..., 4), broadcastable with `a`.

    Returns:
        (...) in 0 … 1; 0 where both boxes are without area.
    """
    low = torch.maximum(a[..., :2], b[..., :2])
    high = torch.minimum(a[..., 2:], b[..., 2:])
    overlap = _product(high - low)
    union = area(a) + area(b) - overlap
    return overlap / union.clamp(min=torch.finfo(union.dtype).tiny)


def giou(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Generalised IoU (Rezatofighi et al., 2019) and IoU of (..., 4) xyxy boxes, element by element.

    Returns:
        GIoU in -1 … 1 and IoU in 0 … 1, each of shape (...).
    """
    a_low, a_high = a[..., :2], a[..., 2:]
    b_low, b_high = b[..., :2], b[..., 2:]
    inner = _product(torch.minimum(a_high, b_high) - torch.maximum(a_low, b_low))
    hull = _product(torch.maximum(a_high, b_high) - torch.minimum(a_low, b_low))
    tiny = torch.finfo(inner.dtype).tiny
    union = (area(a) + area(b) - inner).clamp(min=tiny)
    overlap = inner / union
    return overlap - (hull - union) / hull.clamp(min=tiny), overlap


def decode(deltas: Tensor, anchors: Tensor) -> Tensor:
    """Boxes from offsets to anchors, in the coding of R-CNN (Girshick et al., 2014).

    Args:
        deltas: (..., N, 4) as (dx, dy, log dw, log dh), in units of the anchor's size.
        anchors: (N, 4) or (..., N, 4) xyxy in pixels.

    Returns:
        (..., N, 4) xyxy in pixels.
    """
    size = anchors[..., 2:] - anchors[..., :2]
    centre = anchors[..., :2] + 0.5 * size
    new_centre = centre + deltas[..., :2] * size
    half = 0.5 * size * deltas[..., 2:].clamp(max=MAX_LOG_SCALE).exp()
    return torch.cat((new_centre - half, new_centre + half), dim=-1)


def _product(size: Tensor) -> Tensor:
    """Width times height of (..., 2), negative ones taken for 0; unlike `prod`'s, its backward waits for no GPU."""
    width, height = size.clamp(min=0).unbind(-1)
    return width * height
