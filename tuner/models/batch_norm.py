"""Batch norm that trains on any batch, however small, or not at all."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d


class BatchNorm(nn.BatchNorm2d):
    """`nn.BatchNorm2d`, but a single value per channel is normalised by the running statistics, and not counted in.

    A feature map of one pixel from a batch of one image has no variance, so torch refuses it in training. Detectors
    with coarse levels meet it whenever one image goes through them alone: with a batch size of 1, in the last batch
    of a data set, or where memory forces a micro-batch of 1.
    """

    def forward(self, values: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        if self.training and values.numel() == self.num_features:
            return F.batch_norm(values, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(values)


class FrozenBatchNorm(FrozenBatchNorm2d):  # type: ignore[misc]
    """torchvision's `FrozenBatchNorm2d` as one operation, which leaves half precision as it is."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
