"""How a network's tensors lie in memory while it trains."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def lay_out(network: nn.Module, device: torch.device) -> None:
    """Store filters, and so activations, channels-last, with which convolutions in 16 bits are fastest.

    On a CPU, strided depthwise convolutions get maps of 1 x 1 pixels, such as those of SSDlite's last layers below
    320 px, in the other layout: else the gradient of their filters in bfloat16 is what lay in memory, often NaN
    (torch 2.14).

    Args:
        network: On the device; changed in place.
        device: Where it trains.
    """
    network.to(memory_format=torch.channels_last)
    if device.type != "cpu":
        return
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1 and module.stride != (1, 1):
            # For a single channel both layouts are contiguous, and differ in strides alone.
            module.weight.data = module.weight.data.clone(memory_format=torch.contiguous_format)
            module.register_forward_pre_hook(_contiguous_pixel)


def _contiguous_pixel(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
    (maps,) = inputs
    return (maps.clone(memory_format=torch.contiguous_format),) if maps.shape[2:] == (1, 1) else None
