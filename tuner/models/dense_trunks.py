"""Torchvision's classification networks as trunks of `dense`: features at strides 8, 16 and 32."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights
from torchvision.transforms.functional import normalize

from tuner.config.errors import WeightsError
from tuner.models.dense_network import Trunk
from tuner.models.weights import load_pretrained

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_CLASSIFIERS = ("fc.", "classifier.", "conv5.")


class StagedTrunk(Trunk):
    """A stem to stride 4, and three stages to strides 8, 16 and 32.

    Args:
        stem: From images to features at stride 4.
        stages: Each halves the resolution.
        channels: Width of each stage's features.
        normalise: Whether images get ImageNet's mean and deviation, as torchvision's weights expect.
    """

    def __init__(
        self, stem: nn.Sequential, stages: nn.Sequential, channels: tuple[int, int, int], *, normalise: bool
    ) -> None:
        super().__init__()
        self.stem = stem
        self.stages = stages
        self.channels = channels
        self.normalise = normalise

    def forward(self, x: Tensor) -> list[Tensor]:
        """Features at strides 8, 16 and 32 of (B, 3, H, W) RGB images in 0 … 1."""
        if self.normalise:
            x = normalize(x, list(IMAGENET_MEAN), list(IMAGENET_STD))
        x = self.stem(x)
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
    return StagedTrunk(stem, _parts(net, "layer2", "layer3", "layer4"), channels, normalise=True)


def shufflenet(name: str, weights: str) -> StagedTrunk:
    """A ShuffleNetV2 (Ma et al., 2018): "shufflenet_v2_x0_5"."""
    net = _classifier(name, weights)
    stem = _parts(net, "conv1", "maxpool")
    return StagedTrunk(stem, _parts(net, "stage2", "stage3", "stage4"), (48, 96, 192), normalise=False)


def _parts(net: nn.Module, *names: str) -> nn.Sequential:
    return nn.Sequential(*(net.get_submodule(name) for name in names))


def _classifier(name: str, weights: str) -> nn.Module:
    """A torchvision classifier with its weights: "none", "default" or the path of a file.

    Raises:
        WeightsError: The weights are missing, out of reach or of another network.
    """
    pretrained = load_pretrained(weights, get_model_weights(name).DEFAULT)
    if pretrained and not pretrained.is_classifier:
        raise WeightsError(
            f"weights: {weights} holds a whole detector",
            hint=f"Give a state dict of torchvision.models.{name}, or use weights: none.",
        )
    return pretrained.fill_trunk(get_model(name, weights=None), unused=_CLASSIFIERS)
