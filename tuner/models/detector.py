"""`Detector`: the one interface that every detector has towards training and evaluation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

MIN_SCORE = 1e-3


class Candidates(NamedTuple):
    """Predictions of one batch before suppression, padded to one number of rows.

    Attributes:
        boxes: (B, P, 4) float32, xyxy in pixels of the letterboxed image.
        scores: (B, P) float32 in 0 … 1, descending; 0 in padded rows.
        labels: (B, P) int64, class indices 0 … K-1.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor


class Detector(nn.Module, ABC):
    """A detector on letterboxed images; labels are 0 … K-1 on both sides, whatever the network counts inside."""

    max_candidates = 1000
    """Most (box, class) pairs per image, the best by score over all levels."""

    @property
    @abstractmethod
    def backbone(self) -> nn.Module:
        """The part that pretrained weights fill."""

    @abstractmethod
    def losses(self, images: Tensor, boxes: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Named loss terms, each a scalar in float32; their sum is what is minimised.

        Args:
            images: (B, 3, H, W) uint8, RGB.
            boxes: (B, M, 4) float32, xyxy in pixels, padded (see `tuner.data.batch.Batch`).
            labels: (B, M) int64.
        """

    def divisors(self, images: Tensor, boxes: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """By what terms of `losses` divide their sums over the images, where it is not the number of images.

        Scalars, as sums over the images: those of parts of a batch add up to the batch's. Less than 1 divides as 1.
        Call as `losses`, under `no_grad`.
        """
        return {}

    @abstractmethod
    def candidates(self, images: Tensor) -> Candidates:
        """Predictions before suppression for (B, 3, H, W) uint8 RGB images, in eval mode under `inference_mode`."""


def best_pairs(scores: Tensor, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """The `most` best (box, class) pairs of (B, N, K) scores: scores, box and class indices, each (B, P).

    They are all of boxes whose best class is among the `most` best, so that only of these all classes are sorted.
    """
    classes = scores.shape[-1]
    box = scores.amax(-1).topk(min(most, scores.shape[1])).indices
    some = scores.gather(1, box[..., None].expand(-1, -1, classes)).flatten(1)
    best, pair = some.topk(min(most, some.shape[1]))
    best = torch.where(best < MIN_SCORE, 0.0, best)  # NaN stays, to be refused
    return best, box.gather(1, pair.div(classes, rounding_mode="floor")), pair % classes
