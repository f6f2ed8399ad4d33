"""Exponential moving average of a model's weights, by which it is judged."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


class Ema(Generic[M]):
    """A copy of `model` whose weights and batch-norm statistics follow it slowly.

    The decay grows from near 0 to `decay` over the first steps, as (1 + n) / (10 + n), so that the
    average does not drag the initial weights along (TensorFlow's `ExponentialMovingAverage`).

    Args:
        model: Followed; not changed.
        decay: Per step; 0 makes `model` itself the average.
    """

    def __init__(self, model: M, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.model: M = model if decay == 0 else copy.deepcopy(model).requires_grad_(False)
        pairs = [
            (average, current)
            for average, current in zip(self.model.state_dict().values(), model.state_dict().values(), strict=True)
            if average is not current and average.data_ptr() != current.data_ptr()
        ]
        self._float = [pair for pair in pairs if pair[0].is_floating_point()]
        self._other = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        """Follow one optimiser step."""
        self.steps += 1
        if not self._float:
            return
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        averages = [average for average, _ in self._float]
        torch._foreach_lerp_(averages, [current for _, current in self._float], 1 - decay)
        if self._other:
            torch._foreach_copy_([average for average, _ in self._other], [current for _, current in self._other])
