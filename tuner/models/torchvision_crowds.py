"""Crowd regions in torchvision's detectors: neither object nor background, as COCO's evaluation has it.

An anchor, point or proposal that answers for no object and lies with at least half of its area in a crowd region
(COCO's rule for detections at IoU 0.5) takes no part in the classification loss. torchvision knows no such regions;
the classes here are its own with the one method changed that decides what is background. They keep no state, so a
network that torchvision has built becomes blind to crowds by `module.__class__ = …`.

All of them read the key `crowds` of torchvision's targets: (C, 4) float32 boxes, xyxy in pixels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection.fcos import FCOSHead
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.models.detection.ssd import SSD
from torchvision.ops import box_iou

LEAST_COVERED = 0.5
"""Share of a box's area in one crowd region from which on the box counts as part of it."""

Targets = list[dict[str, Tensor]]

FOREGROUND = "foreground"
"""Key beside a single-stage head's losses: how many anchors of the batch answer for an object."""

_CERTAIN = 100.0
"""A logit whose loss is 0 in float32, value and gradient, where it says what is right."""


def share_in_crowd(boxes: Tensor, crowds: Tensor) -> Tensor:
    """(N,) largest share of each of (N, 4) boxes that lies in one of (C, 4) crowd regions; all xyxy in pixels."""
    if not len(crowds):
        return boxes.new_zeros(len(boxes))
    size = torch.minimum(boxes[:, None, 2:], crowds[:, 2:]) - torch.maximum(boxes[:, None, :2], crowds[:, :2])
    covered = size.clamp(min=0).prod(dim=-1).amax(dim=1)
    return covered / (boxes[:, 2:] - boxes[:, :2]).prod(dim=-1).clamp(min=torch.finfo(boxes.dtype).tiny)


def in_crowd(boxes: Tensor, crowds: Tensor) -> Tensor:
    """(N,) bool: which of (N, 4) boxes are part of one of (C, 4) crowd regions; all xyxy in pixels."""
    return share_in_crowd(boxes, crowds) >= LEAST_COVERED


class _CertainOfCrowds:
    """Before a loss is computed: where an anchor is to be ignored, its logits say "background", for sure."""

    has_background = False
    """Whether class 0 is the background, against which the others compete."""

    def compute_loss(
        self, targets: Targets, head_outputs: dict[str, Tensor], anchors: list[Tensor], matched_idxs: list[Tensor]
    ) -> dict[str, Tensor]:
        """See torchvision, with `FOREGROUND` besides; `matched_idxs` below 0 stand for no object."""
        if any(len(target["crowds"]) for target in targets):
            ignored = torch.stack(
                [
                    in_crowd(anchor, target["crowds"]) & (matched < 0)
                    for anchor, target, matched in zip(anchors, targets, matched_idxs, strict=True)
                ]
            )
            logits = head_outputs["cls_logits"]
            certain = torch.full_like(logits, -_CERTAIN)
            if self.has_background:
                certain[..., 0] = _CERTAIN
            head_outputs = head_outputs | {"cls_logits": torch.where(ignored[..., None], certain, logits)}
        losses: dict[str, Tensor] = super().compute_loss(targets, head_outputs, anchors, matched_idxs)  # type: ignore[misc]
        return losses | {FOREGROUND: (torch.stack(matched_idxs) >= 0).sum()}


class CrowdBlindRetinaNetHead(_CertainOfCrowds, RetinaNetHead):  # type: ignore[misc]
    """RetinaNet's head."""


class CrowdBlindFCOSHead(_CertainOfCrowds, FCOSHead):  # type: ignore[misc]
    """FCOS's head, whose anchors are squares of the stride's size around its points."""


class CrowdBlindSSD(_CertainOfCrowds, SSD):  # type: ignore[misc]
    """SSD; what is certain is no hard negative either."""

    has_background = True


class CrowdBlindRPN(RegionProposalNetwork):  # type: ignore[misc]
    """The region proposal network of Faster R-CNN."""

    def assign_targets_to_anchors(self, anchors: list[Tensor], targets: Targets) -> tuple[list[Tensor], list[Tensor]]:
        """See torchvision: labels 1, 0 and -1, the last never sampled, and the object of each anchor."""
        labels, boxes = super().assign_targets_to_anchors(anchors, targets)
        for label, anchor, target in zip(labels, anchors, targets, strict=True):
            label[in_crowd(anchor, target["crowds"]) & (label == 0)] = -1.0
        return labels, boxes


class CrowdBlindRoIHeads(RoIHeads):  # type: ignore[misc]
    """The second stage of Faster R-CNN."""

    def select_training_samples(self, proposals: list[Tensor], targets: Targets) -> Any:
        """See torchvision; proposals to be ignored are left out before it samples.

        In an image without objects, the proposal that lies least in crowds is always kept: torchvision's losses are
        means, and a mean over nothing is not a number. (The region proposal network always has anchors that reach
        beyond the canvas.)
        """
        kept = []
        for proposal, target in zip(proposals, targets, strict=True):
            share = share_in_crowd(proposal, target["crowds"])
            looked_at = share < LEAST_COVERED
            if len(target["boxes"]):
                looked_at |= box_iou(proposal, target["boxes"]).amax(dim=1) >= self.proposal_matcher.high_threshold
            elif len(proposal):
                looked_at.scatter_(0, share.argmin(dim=0, keepdim=True), True)  # an index would be waited for
            kept.append(proposal[looked_at])
        return super().select_training_samples(kept, targets)
