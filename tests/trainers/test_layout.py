"""Gradients of networks as they lie in memory."""

import torch
from torch import nn

from tuner.trainers.detection.layout import lay_out


def test_the_gradient_of_a_strided_depthwise_convolution_of_one_pixel_is_the_same_each_time() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(8, 64, 1), nn.Conv2d(64, 64, 3, stride=2, padding=1, groups=64))
    exact = torch.autograd.grad((network(pixel := torch.randn(4, 8, 1, 1)) ** 2).sum(), network[1].weight)[0]
    lay_out(network, torch.device("cpu"))
    for _ in range(20):
        torch.full((200_000,), torch.nan)  # what lies in memory then
        with torch.autocast("cpu", torch.bfloat16):
            loss = (network(pixel).float() ** 2).sum()
        found = torch.autograd.grad(loss, network[1].weight)[0]
        torch.testing.assert_close(found, exact, atol=0.05, rtol=0.05)


def test_all_else_is_stored_with_channels_last() -> None:
    network = nn.Sequential(nn.Conv2d(8, 64, 3), nn.Conv2d(64, 64, 3, padding=1, groups=64))
    lay_out(network, torch.device("cpu"))
    assert network(torch.randn(2, 8, 6, 6)).is_contiguous(memory_format=torch.channels_last)
