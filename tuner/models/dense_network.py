"""The bare network of the dense detector: trunk, feature pyramid and a head shared by all levels."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tuner.models.batch_norm import BatchNorm

GROUP = 16
"""Channels that a group norm of the head takes together."""


class ConvNormAct(nn.Sequential):
    """Convolution, batch norm and ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
            BatchNorm(outputs),
            nn.ReLU(inplace=True),
        )


class Residual(nn.Module):
    """Two 3 x 3 convolutions with a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvNormAct(channels, channels)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, 1, 1, bias=False), BatchNorm(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        return F.relu(x + self.second(self.first(x)), inplace=True)


class Trunk(nn.Module):
    """Gives features at strides 8, 16 and 32 of (B, 3, H, W) RGB images in 0 … 1.

    Attributes:
        channels: Width of the features of each stride.
    """

    channels: tuple[int, int, int]


class PlainTrunk(Trunk):
    """Plain 3 x 3 convolutions, which CPUs and GPUs alike compute faster than depthwise ones of the same cost.

    Two convolutions of stride 2 lead to stride 4. A single one of 7 x 7 and stride 4 saves an eighth of the time, but
    few runs on BCCD gave a mean mAP lower by 0.01, as much as they spread.

    Args:
        widths: Channels at strides 2, 4, 8, 16 and 32.
        depths: Residual blocks at strides 4, 8, 16 and 32.
    """

    def __init__(self, widths: tuple[int, int, int, int, int], depths: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.stem = ConvNormAct(3, widths[0], 3, 2)
        self.stages = nn.ModuleList(
            nn.Sequential(ConvNormAct(inputs, outputs, 3, 2), *(Residual(outputs) for _ in range(depth)))
            for inputs, outputs, depth in zip(widths[:-1], widths[1:], depths, strict=True)
        )
        self.channels = widths[2:]

    def forward(self, x: Tensor) -> list[Tensor]:
        """Features at strides 8, 16 and 32 of (B, 3, H, W) images in 0 … 1."""
        x = self.stem(x)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features[1:]


class FeaturePyramid(nn.Module):
    """Feature pyramid (Lin et al., 2017) over three levels with nearest-neighbour upsampling.

    The paper's last 3 x 3 convolution of each level is left out: the head's first does its work.
    """

    def __init__(self, inputs: tuple[int, ...], channels: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(ConvNormAct(c, channels, 1) for c in inputs)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Features of equal width, finest first, of the same sizes as the inputs."""
        merged = [lateral(f) for lateral, f in zip(self.lateral, features, strict=True)]
        for i in range(len(merged) - 1, 0, -1):
            merged[i - 1] = merged[i - 1] + F.interpolate(merged[i], size=merged[i - 1].shape[-2:])
        return merged


class Tower(nn.Sequential):
    """3 x 3 convolutions of equal width, each with a group norm and ReLU.

    Group norms (Wu and He, 2018, with their best group of 16 channels), as in the heads of FCOS and ATSS. With batch
    norms an image unlike most, such as one on white, is scaled down in training by its own share of a small batch's
    variance, and not in evaluation: a few such images, full of confident detections of nothing, took half of the mAP on
    photographs of raccoons, in some runs almost all.

    Args:
        channels: Of the features, a multiple of 16.
        depth: Convolutions.
    """

    def __init__(self, channels: int, depth: int) -> None:
        layers: list[nn.Module] = []
        for _ in range(depth):
            layers.append(nn.Conv2d(channels, channels, 3, padding=1, bias=False))
            layers += [nn.GroupNorm(channels // GROUP, channels), nn.ReLU(inplace=True)]
        super().__init__(*layers)


class DenseHead(nn.Module):
    """Class logits and box offsets for each anchor, by the same layers on all levels.

    Classes and boxes have a tower each, as in RetinaNet (Lin et al., 2017): in one for both, boxes leave little to the
    classes for hundreds of steps, in which every object is found once as each class. What one tower with a last 1 x 1
    convolution for classes, two, and two with 3 x 3 reached, as mAP of dense-tiny: arrows to the left and right, 600
    steps, 0.48, 0.72, 0.91; generated scenes 0.782, 0.802, 0.821 (one seed each); photographs of raccoons 0.427, 0.462,
    0.436; BCCD 0.610, 0.612, 0.612 (two seeds). The second tower costs a tenth of a training's time on a CPU.

    Args:
        channels: Of the features, a multiple of 16.
        anchors: Anchors per position.
        classes: Number of classes.
        depth: Convolutions before the last layer.
    """

    def __init__(self, channels: int, anchors: int, classes: int, depth: int) -> None:
        super().__init__()
        self.class_tower = Tower(channels, depth)
        self.box_tower = Tower(channels, depth)
        self.classes = nn.Conv2d(channels, anchors * classes, 3, padding=1)
        self.boxes = nn.Conv2d(channels, anchors * 4, 3, padding=1)
        assert self.classes.bias is not None
        assert self.boxes.bias is not None
        nn.init.normal_(self.classes.weight, std=0.01)
        nn.init.constant_(self.classes.bias, -math.log((1 - 0.01) / 0.01))  # scores start at 0.01 (focal loss paper)
        nn.init.normal_(self.boxes.weight, std=0.01)
        nn.init.zeros_(self.boxes.bias)

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """For each level (B, A * K, H, W) class logits and (B, A * 4, H, W) box offsets."""
        logits = [self.classes(self.class_tower(x)) for x in features]
        return logits, [self.boxes(self.box_tower(x)) for x in features]


class DenseNetwork(nn.Module):
    """Trunk, pyramid and head.

    Args:
        trunk: Gives features at strides 8, 16 and 32 and says their `channels`.
        width: Channels of pyramid and head.
        depth: Convolutions of the head before its last layer.
        anchors: Anchors per position, equal on all levels.
        classes: Number of classes.
    """

    def __init__(self, trunk: Trunk, width: int, depth: int, anchors: int, classes: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.pyramid = FeaturePyramid(trunk.channels, width)
        self.head = DenseHead(width, anchors, classes, depth)
        self.num_classes = classes

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Predictions for (B, 3, H, W) images in 0 … 1.

        Returns:
            (B, N, K) class logits and (B, N, 4) box offsets in float32, ordered as `AnchorGrid`.
        """
        logits, deltas = self.head(self.pyramid(self.trunk(images)))
        return _flatten(logits, self.num_classes), _flatten(deltas, 4)


def _flatten(levels: list[Tensor], values: int) -> Tensor:
    """(B, A * V, H, W) of each level to (B, N, V) in float32, ordered by level, position, anchor."""
    return torch.cat([x.permute(0, 2, 3, 1).reshape(len(x), -1, values) for x in levels], dim=1).float()
