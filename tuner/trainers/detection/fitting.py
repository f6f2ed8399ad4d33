"""As many images at a time as a GPU's memory holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from tuner.trainers.detection.cuda_errors import is_out_of_memory

T = TypeVar("T")


def as_many_as_fit(most: int, result: Callable[[int], T]) -> tuple[T, int]:
    """Make something of `most` images at a time, or of half as many as often as memory is short.

    Args:
        most: Images at a time, at least 1.
        result: What is made of so many at a time.

    Returns:
        The result, and of how many at a time it was made.

    Raises:
        RuntimeError: Memory does not hold one image, or whatever else `result` raises.
    """
    while True:
        try:
            return result(most), most
        except RuntimeError as error:
            if most == 1 or not is_out_of_memory(error):
                raise
        # Here the error is gone, and with it the activations that it held.
        torch.cuda.empty_cache()
        most //= 2
