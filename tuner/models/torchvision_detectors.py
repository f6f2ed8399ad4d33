"""torchvision's detectors behind the project's interface: fixed-size uint8 batches in, candidates out.

The networks' own `forward` computes the losses. Three things are changed in them: the input transform, which
only normalises; head outputs, which are float32 before boxes are decoded and losses computed, whatever the
autocast; and, in evaluation, everything after the heads, as NMS and thresholds are chosen later.

Crowd regions are neither object nor background (`torchvision_crowds`). Images without objects teach all families but
SSD, which mines its negatives per object.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import concat_box_prediction_layers
from torchvision.models.detection.ssd import SSD
from torchvision.ops import clip_boxes_to_image

from tuner.data.batch import IGNORE
from tuner.models.boxes import decode
from tuner.models.detector import Candidates, Detector, best_pairs
from tuner.models.torchvision_crowds import (
    FOREGROUND,
    CrowdBlindFCOSHead,
    CrowdBlindRetinaNetHead,
    CrowdBlindRoIHeads,
    CrowdBlindRPN,
    CrowdBlindSSD,
)
from tuner.models.torchvision_transform import CanvasTransform


class TorchvisionDetector(Detector):
    """What the families have in common.

    Args:
        network: torchvision's detector.
        heads: Its modules whose outputs are decoded or enter losses.
        min_side: See `CanvasTransform`.
    """

    first_label = 0
    """torchvision's number of class 0: 1 where it counts the background as 0. Translated here and nowhere else."""
    divides_by_foreground = False
    """Whether losses are sums over the batch, divided by the number of its anchors that answer for an object."""

    def __init__(self, network: nn.Module, heads: list[nn.Module], min_side: int = 0) -> None:
        super().__init__()
        old = network.transform
        network.transform = CanvasTransform(old.image_mean, old.image_std, min_side)  # type: ignore[union-attr, arg-type]
        for head in heads:
            head.register_forward_hook(_float32_outputs)
        self.network = network

    @property
    def backbone(self) -> nn.Module:
        """See `Detector.backbone`: the classification network, without the layers that torchvision puts on top of it.

        VGG-16's last three convolutions are not among it, as torchvision has them in one module with such layers.
        """
        backbone = self.network.get_submodule("backbone")
        return backbone.get_submodule("body" if hasattr(backbone, "body") else "features")

    def losses(self, images: Tensor, boxes: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """See `Detector.losses`; the terms have torchvision's names. Call in training mode."""
        losses = self._outcome(images, boxes, labels)
        losses.pop(FOREGROUND, None)
        return losses

    def divisors(self, images: Tensor, boxes: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """See `Detector.divisors`: for FCOS and SSD the number of anchors that answer for an object.

        RetinaNet's losses are means over the images. Faster R-CNN's are means over samples that it draws, as many from
        each image unless one has too few anchors or proposals: to that extent its images do not count alike.
        """
        if not self.divides_by_foreground:
            return {}
        losses = self._outcome(images, boxes, labels)
        foreground = losses.pop(FOREGROUND)
        return dict.fromkeys(losses, foreground)

    def _outcome(self, images: Tensor, boxes: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The network's losses, with `FOREGROUND` besides where its head counts it."""
        # Objects first and crowds last, so that counts cut them off, for which the host waits once, not for each image.
        order = labels.neg().clamp(min=0).argsort(dim=1, stable=True)
        boxes, labels = boxes.gather(1, order[..., None].expand(-1, -1, 4)), labels.gather(1, order)
        objects, crowds = torch.stack([(labels >= 0).sum(1), (labels == IGNORE).sum(1)]).tolist()
        targets = [
            {"boxes": box[:count], "labels": label[:count] + self.first_label, "crowds": box[len(box) - crowd :]}
            for box, label, count, crowd in zip(boxes, labels, objects, crowds, strict=True)
        ]
        losses: dict[str, Tensor] = self.network(images, targets)
        return losses

    def candidates(self, images: Tensor) -> Candidates:
        """See `Detector.candidates`; boxes are clipped to the canvas."""
        image_list, _ = self.network.transform(images)  # type: ignore[operator]
        features = self.network.backbone(image_list.tensors)  # type: ignore[operator]
        return self._candidates(image_list, features)

    @abstractmethod
    def _candidates(self, images: ImageList, features: dict[str, Tensor]) -> Candidates:
        """Candidates from the backbone's features, finest first."""


class SingleStageDetector(TorchvisionDetector):
    """A network whose head predicts for each anchor.

    Args:
        network: With `backbone`, `head`, `anchor_generator` and `box_coder`.
        min_side: See `CanvasTransform`.
    """

    def __init__(self, network: nn.Module, min_side: int = 0) -> None:
        super().__init__(network, [network.head], min_side)  # type: ignore[list-item]

    def _candidates(self, images: ImageList, features: dict[str, Tensor]) -> Candidates:
        levels = list(features.values())
        outputs = self.network.head(levels)  # type: ignore[operator]
        anchors = self.network.anchor_generator(images, levels)[0]  # type: ignore[operator]
        scores, anchor, labels = best_pairs(self._scores(outputs), self.max_candidates)
        deltas = outputs["bbox_regression"].gather(1, anchor[..., None].expand(-1, -1, 4))
        boxes = self._decode(deltas, anchors[anchor])
        return Candidates(clip_boxes_to_image(boxes, images.image_sizes[0]), scores, labels)

    def _scores(self, outputs: dict[str, Tensor]) -> Tensor:
        """(B, N, K) scores of the classes, without background."""
        return outputs["cls_logits"].sigmoid()

    def _decode(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """(B, P, 4) xyxy boxes from offsets to as many anchors.

        torchvision's own `decode_single` makes two tensors on the device, and waits for it each time.
        """
        weights: tuple[float, ...] = self.network.box_coder.weights  # type: ignore[union-attr, assignment]
        scaled = torch.stack([d / w for d, w in zip(deltas.unbind(-1), weights, strict=True)], dim=-1)
        return decode(scaled, anchors)


class RetinaNetDetector(SingleStageDetector):
    """RetinaNet (Lin et al., 2017)."""

    def __init__(self, network: RetinaNet) -> None:
        super().__init__(network)
        network.head.__class__ = CrowdBlindRetinaNetHead


class FCOSDetector(SingleStageDetector):
    """FCOS (Tian et al., 2019); the score is the geometric mean of class score and centreness."""

    divides_by_foreground = True

    def __init__(self, network: FCOS) -> None:
        super().__init__(network)
        network.head.__class__ = CrowdBlindFCOSHead

    def _scores(self, outputs: dict[str, Tensor]) -> Tensor:
        return (outputs["cls_logits"].sigmoid() * outputs["bbox_ctrness"].sigmoid()).sqrt()

    def _decode(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        flat: Tensor = self.network.box_coder.decode(deltas.flatten(0, 1), anchors.flatten(0, 1))  # type: ignore[union-attr, operator]
        return flat.view_as(deltas)


class SSDDetector(SingleStageDetector):
    """SSD (Liu et al., 2016)."""

    first_label = 1
    divides_by_foreground = True

    def __init__(self, network: SSD, min_side: int = 0) -> None:
        super().__init__(network, min_side)
        network.__class__ = CrowdBlindSSD

    def _scores(self, outputs: dict[str, Tensor]) -> Tensor:
        return outputs["cls_logits"].softmax(-1)[..., 1:]


class TwoStageDetector(TorchvisionDetector):
    """Faster R-CNN (Ren et al., 2015). Proposals are suppressed among themselves, as part of the network.

    Args:
        network: With `backbone`, `rpn` and `roi_heads`.
    """

    first_label = 1

    def __init__(self, network: FasterRCNN) -> None:
        super().__init__(network, [network.rpn.head, network.roi_heads.box_predictor])
        network.rpn.__class__ = CrowdBlindRPN
        network.roi_heads.__class__ = CrowdBlindRoIHeads

    def _candidates(self, images: ImageList, features: dict[str, Tensor]) -> Candidates:
        roi_heads: Any = self.network.roi_heads
        proposals, broken = self._proposals(images, features)
        pooled = roi_heads.box_roi_pool(features, proposals, images.image_sizes)
        logits, deltas = roi_heads.box_predictor(roi_heads.box_head(pooled))
        counts = [len(proposal) for proposal in proposals]
        # A box for each class; where there are no proposals at all, torchvision leaves the classes in one row.
        decoded = roi_heads.box_coder.decode(deltas, proposals).view(*logits.shape, 4)[:, 1:].flatten(1)
        boxes = _padded(decoded.split(counts), broken)
        scores = _padded(logits.softmax(-1)[:, 1:].split(counts), broken)
        best, proposal, labels = best_pairs(scores, self.max_candidates)
        pair = (proposal * scores.shape[-1] + labels)[..., None].expand(-1, -1, 4)
        chosen = boxes.view(len(boxes), -1, 4).gather(1, pair)
        return Candidates(clip_boxes_to_image(chosen, images.image_sizes[0]), best, labels)

    def _proposals(self, images: ImageList, features: dict[str, Tensor]) -> tuple[list[Tensor], Tensor]:
        """Each image's proposals, as torchvision's `forward` makes them, and (B,) bool, where NaN was among them.

        torchvision drops what is NaN, so that a network that diverged would seem to have seen nothing.
        """
        rpn: Any = self.network.rpn
        levels = list(features.values())
        outputs = rpn.head(levels)
        broken = torch.stack([level.isnan().flatten(1).any(1) for output in outputs for level in output]).any(0)
        objectness, deltas = concat_box_prediction_layers(*outputs)
        boxes = rpn.box_coder.decode(deltas, rpn.anchor_generator(images, levels)).view(len(broken), -1, 4)
        counts = [level[0].numel() for level in outputs[0]]
        proposals, _ = rpn.filter_proposals(boxes, objectness, images.image_sizes, counts)
        return proposals, broken


def _padded(parts: Sequence[Tensor], broken: Tensor) -> Tensor:
    """(B, P + 1, C) rows of B images; those that fill up are 0, and the last NaN where the (B,) mask is true."""
    rows = pad_sequence(list(parts), batch_first=True)
    last = torch.where(broken, torch.nan, 0.0)[:, None, None].expand(-1, 1, rows.shape[-1])
    return torch.cat([rows, last], dim=1)


def _float32_outputs(_module: nn.Module, _inputs: object, outputs: Any) -> Any:
    if isinstance(outputs, Tensor):
        return outputs.float()
    if isinstance(outputs, dict):
        return {key: _float32_outputs(_module, _inputs, value) for key, value in outputs.items()}
    return type(outputs)(_float32_outputs(_module, _inputs, value) for value in outputs)
