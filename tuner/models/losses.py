"""Loss functions of the dense detector: pure, unreduced, in float32."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def quality_focal_loss(logits: Tensor, quality: Tensor, beta: float = 2.0) -> Tensor:
    """Quality focal loss (Li et al., Generalized Focal Loss, 2020).

    Binary cross-entropy against a soft target, weighted by the distance from it: the score learns
    the IoU that its box will have, so that ranking by score ranks by quality.

    Args:
        logits: Any shape.
        quality: Same shape; the IoU of the predicted box with its object for the object's class, else 0.
        beta: Exponent of the weight.

    Returns:
        Same shape as `logits`.
    """
    weight = (quality - logits.sigmoid()).abs().pow(beta)
    return weight * F.binary_cross_entropy_with_logits(logits, quality, reduction="none")
