"""Torchvision's classification networks as trunks of `dense`: features at strides 8, 16 and 32."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights

from tuner.models.batch_norm import BatchNorm
from tuner.models.dense_network import Trunk
from tuner.models.input_convention import IMAGENET_MEAN, IMAGENET_STD, adapt_input
from tuner.models.weights import load_pretrained

NORM_EPS = 1e-3
"""Added to the variances of batch norm, as in EfficientDet and YOLOX.

With PyTorch's 1e-5 a channel that is dead but for a few images is blown up 300 times where it is not. In training
the batch's own variance hides that; in evaluation it goes on through all levels, and those images are lost.
"""
_CLASSIFIERS = ("fc.", "classifier.", "conv5.")


class StagedTrunk(Trunk):
    """A stem to stride 4, and three stages to strides 8, 16 and 32.

    Args:
        stem: From images to features at stride 4.
        stages: Each halves the resolution.
        channels: Width of each stage's features.
        normalised: Whether the stem takes images that are normalised by ImageNet's mean and deviation, as
            torchvision's weights do. It is kept among the weights, with which it belongs.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self, stem: nn.Sequential, stages: nn.Sequential, channels: tuple[int, int, int], *, normalised: bool
    ) -> None:
        super().__init__()
        self.stem = stem
        self.stages = stages
        self.channels = channels
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.__class__ = BatchNorm  # ShuffleNet cannot be built with norms of one's own
                module.eps = NORM_EPS
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN if normalised else (0.0,) * 3).view(3, 1, 1))
        self.register_buffer("deviation", torch.tensor(IMAGENET_STD if normalised else (1.0,) * 3).view(3, 1, 1))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Features at strides 8, 16 and 32 of (B, 3, H, W) RGB images in 0 … 1."""
        x = self.stem((x - self.mean) / self.deviation)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


def resnet(name: str, weights: str) -> StagedTrunk:
    """A ResNet (He et al., 2016): "resnet18", "resnet34" or "resnet50"."""
    net = _classifier(name, weights)
    stem = _parts(net, "conv1", "bn1", "relu", "maxpool", "layer1")
    channels = (512, 1024, 2048) if name == "resnet50" else (128, 256, 512)
    normalised = adapt_input(net.get_submodule("conv1"), net.get_submodule("bn1"))
    return StagedTrunk(stem, _parts(net, "layer2", "layer3", "layer4"), channels, normalised=normalised)


def shufflenet(name: str, weights: str) -> StagedTrunk:
    """A ShuffleNetV2 (Ma et al., 2018): "shufflenet_v2_x0_5"."""
    net = _classifier(name, weights)
    stem = _parts(net, "conv1", "maxpool")
    normalised = adapt_input(net.get_submodule("conv1.0"), net.get_submodule("conv1.1"))
    return StagedTrunk(stem, _parts(net, "stage2", "stage3", "stage4"), (48, 96, 192), normalised=normalised)


def _parts(net: nn.Module, *names: str) -> nn.Sequential:
    return nn.Sequential(*(net.get_submodule(name) for name in names))


def _classifier(name: str, weights: str) -> nn.Module:
    """A torchvision classifier with its weights: "none", "default" or the path of a file.

    Raises:
        WeightsError: The weights are missing, out of reach or of another network.
    """
    pretrained = load_pretrained(weights, get_model_weights(name).DEFAULT)
    return pretrained.fill_trunk(get_model(name, weights=None), unused=_CLASSIFIERS)
