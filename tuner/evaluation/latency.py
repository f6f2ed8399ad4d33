"""Measuring what an image costs: time, size, arithmetic and memory of a network and of what follows it."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tuner.evaluation.cost import BatchTimes, Timing

Network = Callable[[Tensor], object]
Postprocess = Callable[[object], object]

WARM_UP = 3
RUNS = (10, 100)
"""Least and most measured runs of a batch."""
SECONDS = 1.0
"""Measuring of one batch size stops after the run in which this is over, but for the least number of runs."""


@torch.inference_mode()
def time_batch(images: Tensor, network: Network, postprocess: Postprocess, *, count: int) -> BatchTimes:
    """Time a batch again and again, after warm-up; the device is waited for before each look at the clock.

    Args:
        images: (B, 3, H, W) on the device: images, or windows on them.
        network: Gives the candidates of a batch.
        postprocess: Takes them to what production shows.
        count: Number of images that it stands for.
    """
    device = images.device
    spans: list[tuple[float, float]] = []
    ends = 0.0
    for run in range(WARM_UP + RUNS[1]):
        if run == WARM_UP:
            ends = time.perf_counter() + SECONDS
        _wait(device)
        begun = time.perf_counter()
        candidates = network(images)
        _wait(device)
        between = time.perf_counter()
        postprocess(candidates)
        _wait(device)
        done = time.perf_counter()
        if run >= WARM_UP:
            spans.append((between - begun, done - between))
            if len(spans) >= RUNS[0] and done > ends:
                break
    milliseconds = 1000 * np.array(spans)
    return BatchTimes(
        batch_size=count,
        runs=len(spans),
        network=_timing(milliseconds[:, 0]),
        postprocess=_timing(milliseconds[:, 1]),
        total=_timing(milliseconds.sum(axis=1)),
    )


def _timing(milliseconds: NDArray[np.float64]) -> Timing:
    return Timing(median=float(np.median(milliseconds)), p90=float(np.percentile(milliseconds, 90)))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@torch.no_grad()
def multiply_adds(images: Tensor, network: Network) -> int:
    """Multiply-adds of the matrix products and convolutions of a forward pass (half of torch's FLOPs)."""
    with FlopCounterMode(display=False) as counter:
        network(images)
    return int(counter.get_total_flops()) // 2


def parameters(module: nn.Module) -> int:
    """Number of parameters, trained or frozen."""
    return sum(parameter.numel() for parameter in module.parameters())


@torch.inference_mode()
def inference_memory(images: Tensor, module: nn.Module, network: Network) -> float | None:
    """Largest GPU memory of a forward pass in MiB: the weights, and what is allocated on top.

    Begins the device's count of its peak memory anew. None on a CPU, which keeps no such count.
    """
    if images.device.type != "cuda":
        return None
    torch.cuda.synchronize(images.device)
    torch.cuda.reset_peak_memory_stats(images.device)
    before = torch.cuda.memory_allocated(images.device)
    network(images)
    torch.cuda.synchronize(images.device)
    extra = torch.cuda.max_memory_allocated(images.device) - before
    weights = sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers()))
    return (weights + extra) / 2**20
