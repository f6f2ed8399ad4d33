"""As many images at a time as memory holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from tuner.config.trial import TrialConfig
from tuner.data.letterbox import Canvas
from tuner.models.catalog import family
from tuner.trainers.contract import OutOfMemory
from tuner.trainers.detection.cuda_errors import is_out_of_memory

T = TypeVar("T")

_SCORES = 1 << 28
"""Bytes of class scores that a CPU holds of one batch; what is made of them on the way takes twice as much again."""
_PROPOSALS = 1000
"""Boxes of an image that the second stage of Faster R-CNN gives scores for."""


def at_once_on(device: torch.device, most: int, config: TrialConfig, canvas: Canvas, classes: int) -> int:
    """`most` images at a time, or on a CPU fewer, where many classes and pixels have scores that would fill its memory.

    There is nothing to fall back on there as on a GPU (`as_many_as_fit`): the system ends the process.
    """
    if device.type != "cpu":
        return most
    strides = family(config.model).strides
    anchors = map(len, config.anchor_sizes) if config.anchor_sizes else [1] * len(strides)
    boxes = sum(
        -(-canvas.width // stride) * -(-canvas.height // stride) * count
        for stride, count in zip(strides, anchors, strict=True)
    )
    if config.model.startswith("fasterrcnn"):
        boxes = _PROPOSALS
    return max(1, min(most, _SCORES // (4 * boxes * classes)))


def as_many_as_fit(most: int, result: Callable[[int], T]) -> tuple[T, int]:
    """Make something of `most` images at a time, or of half as many as often as memory is short.

    Args:
        most: Images at a time, at least 1.
        result: What is made of so many at a time.

    Returns:
        The result, and of how many at a time it was made.

    Raises:
        OutOfMemory: Memory does not hold what is made of one image.
        RuntimeError: As `result` raises it.
    """
    while True:
        try:
            return result(most), most
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if most == 1:
                raise OutOfMemory(
                    f"memory does not hold a single image beside the model: {str(error).splitlines()[0]}",
                    hint="Free what other processes hold, or use a smaller image size or model, or --device cpu.",
                ) from error
        # Here the error is gone, and with it the activations that it held.
        torch.cuda.empty_cache()
        most //= 2
