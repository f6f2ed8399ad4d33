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


def freeze_norms(module: nn.Module) -> None:
    """Put a `FrozenBatchNorm` with the same values in the place of each batch norm within a module."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            frozen = FrozenBatchNorm(child.num_features, eps=child.eps)
            state = child.state_dict()
            frozen.load_state_dict({key: state[key] for key in frozen.state_dict()})
            setattr(module, name, frozen)
        else:
            freeze_norms(child)
