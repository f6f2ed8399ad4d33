"""What images a pretrained network expects: RGB or BGR, in 0 … 1 or normalised."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Mean colour of ImageNet's photographs, RGB in 0 … 1; a good guess for any photographs."""
IMAGENET_STD = (0.229, 0.224, 0.225)


@torch.no_grad()
def adapt_input(conv: nn.Module, norm: nn.Module) -> bool:
    """Let a network that was trained on BGR images take RGB ones, and find out whether it wants them normalised.

    Files of weights do not say what images they want, but their first batch norm remembers the mean response of the
    first convolution, and the mean colour of photographs is known: what that colour gives as BGR, as RGB, or
    normalised (then nothing) is compared with what is remembered.

    Args:
        conv: First convolution, without bias; the order of its input channels is changed where it takes BGR.
        norm: Its batch norm.

    Returns:
        Whether the images in 0 … 1 are to be normalised by ImageNet's mean and deviation; so for an untrained
        network, which remembers nothing.
    """
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d | FrozenBatchNorm2d)
    remembered, colour, flipped = norm.running_mean, torch.tensor(IMAGENET_MEAN), conv.weight.flip(1)
    assert remembered is not None
    responses = {
        "normalised": 0 * remembered,
        "rgb": conv.weight.sum((2, 3)) @ colour,
        "bgr": flipped.sum((2, 3)) @ colour,
    }
    found = min(responses, key=lambda name: float((responses[name] - remembered).norm()))
    if found == "bgr":
        conv.weight.copy_(flipped)
    return found == "normalised"


@torch.no_grad()
def take_normalised(conv: nn.Module, norm: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
    """Let a network take RGB images that are normalised, where it was trained on such in 0 … 1, or on BGR ones.

    The normalisation is undone in the first convolution and its batch norm, so that the weights alone say all. Only at
    the images' borders does it differ, where the convolution is padded with the mean colour now instead of black.

    Args:
        conv: First convolution, without bias.
        norm: Its batch norm.
        mean: Of each channel, for images in 0 … 1.
        std: Of each channel.
    """
    if not adapt_input(conv, norm):
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d | FrozenBatchNorm2d)
        assert norm.running_mean is not None
        norm.running_mean -= conv.weight.sum((2, 3)) @ torch.tensor(mean)
        conv.weight *= torch.tensor(std).view(3, 1, 1)
