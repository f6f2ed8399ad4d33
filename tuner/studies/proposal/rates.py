"""How fast a first study's default config learns: its learning rate and warm-up, from what the data set shows."""

from __future__ import annotations

import math

RATE_OF_ONE_BOX = 1e-3
HIGHEST_RATES = {"dense-tiny": 8e-3, "dense-shufflenet": 8e-3}
HIGHEST_RATE = 4e-3
"""Learning rate of `dense` detectors for at most one box in a batch, and the highest one, by model: it grows with the
square root of the boxes, as Adam's may with what a step learns from (Malladi et al. 2022, "On the SDEs and Scaling
Rules for Adaptive Gradient Algorithms", arXiv 2205.10287). Of the rates 1, 2, 4, 8 and 16e-3, at four images a batch
and two seeds, dense-tiny was best at 8e-3 on BCCD, with 14 boxes an image (mAP 0.537 instead of 0.508 at 2e-3), at 4e-3
on generated scenes with 6 (0.603 instead of 0.580), and at 2e-3 on raccoons with 1 (0.391; 0.326 at 8e-3). On BCCD's
pictures with one of its classes alone, 1 box an image, it was no better above 2e-3. A pretrained ShuffleNet (one seed)
was best at 8e-3 on BCCD, at 4e-3 on raccoons. dense-small was as good at 2 as at 4 and 8e-3 on a CPU; on a GPU, at 16
images a batch of 640 pixels on BCCD (one seed), it had 0.616 at 1e-3, 0.627 at 2e-3, 0.623 at 4e-3 and 0.500 at 8e-3.
RTMDet trains its models of all sizes on COCO with AdamW at 4e-3 (Lyu et al. 2022, arXiv 2212.07784)."""
WARMUP_STEPS = 150
"""Optimiser steps over which the learning rate of `dense` detectors rises at least. An epoch of a small data set has
few, and after a warm-up of one a high rate still throws the first weights about. Three epochs instead of one (90 to 154
steps, two seeds each) brought dense-tiny a mAP of 0.541 instead of 0.528 on BCCD at 224 pixels, 0.601 instead of 0.600
at 384; on raccoons 0.400 instead of 0.387 at 224 and 0.393 instead of 0.379 at 320; on generated scenes 0.595 instead
of 0.585. Six, a quarter of the training, brought 0.523 on BCCD (one seed). YOLOv5 warms up for three epochs, but at
least 100 steps; RTMDet for 1,000."""


def first_learning_rate(boxes: float, model: str) -> float:
    """The learning rate of a `dense` detector, to two digits.

    Args:
        boxes: Boxes in a batch.
        model: The detector.
    """
    rate = min(RATE_OF_ONE_BOX * math.sqrt(max(1.0, boxes)), highest_rate(model))
    return float(f"{rate:.2g}")


def highest_rate(model: str) -> float:
    """The highest learning rate that `first_learning_rate` has for a `dense` detector."""
    return HIGHEST_RATES.get(model, HIGHEST_RATE)
