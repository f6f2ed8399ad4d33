"""Optimiser, parameter groups and learning-rate schedule from a `TrialConfig`."""

from __future__ import annotations

import itertools
import math

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from tuner.config.trial import TrialConfig
from tuner.models.detector import Detector

FINAL_FACTOR = 0.01
"""Cosine ends at this part of the peak learning rate."""
LONGEST_LEAST_WARMUP = 1 / 8
"""Part of the training that `TrialConfig.warmup_steps` may take; on BCCD a quarter was too much."""
STEP_MILESTONES = (2 / 3, 8 / 9)
"""Fractions of the training at which the step schedule divides by 10, those of Detectron's 1x schedule."""


def build_optimizer(detector: Detector, config: TrialConfig) -> Optimizer:
    """SGD with Nesterov momentum or AdamW, a pretrained backbone in parameter groups of its own (`lr_factor`).

    Weight decay is on weights of two and more dimensions only: norms and biases are left out (Goyal et al., 2017).

    The state is made here, as torch would make it in the first step. So the first batch finds as much memory as all
    others, and what does not fit is met where the batch can be divided, not in a step that is half done.
    """
    factors = dict.fromkeys(detector.parameters(), 1.0)
    if config.weights != "none":
        factors |= dict.fromkeys(detector.backbone.parameters(), config.backbone_lr_factor)
    members: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter, factor in factors.items():
        if parameter.requires_grad:
            decay = config.weight_decay if parameter.ndim > 1 else 0.0
            members.setdefault((factor, decay), []).append(parameter)
    groups = [
        {"params": parameters, "lr_factor": factor, "weight_decay": decay}
        for (factor, decay), parameters in members.items()
    ]
    optimizer: Optimizer
    names: tuple[str, ...]
    if config.optimizer == "adamw":
        optimizer = AdamW(groups, lr=config.learning_rate, betas=(config.momentum, 0.999), fused=True)
        names = ("exp_avg", "exp_avg_sq")
    else:
        nesterov = config.momentum > 0
        optimizer = SGD(groups, lr=config.learning_rate, momentum=config.momentum, nesterov=nesterov, fused=True)
        # A first step that the gradient scaler skips would leave torch's own as memory that was never written.
        names = ("momentum_buffer",) if nesterov else ()
    for parameter in itertools.chain.from_iterable(members.values()):
        optimizer.state[parameter].update({name: torch.zeros_like(parameter) for name in names})
        if config.optimizer == "adamw":
            optimizer.state[parameter]["step"] = torch.zeros((), device=parameter.device)
    return optimizer


def learning_rate(config: TrialConfig, step: int, steps_per_epoch: int) -> float:
    """The learning rate of a step, counted from 0 over the whole training.

    Linear warm-up over `warmup_epochs`, or `warmup_steps` where these are more, then the schedule, both laid out for
    `config.epochs` (decision 11).
    """
    total = config.epochs * steps_per_epoch
    warmup = max(config.warmup_epochs * steps_per_epoch, min(config.warmup_steps, LONGEST_LEAST_WARMUP * total))
    progress = step / total
    if config.schedule == "cosine":
        factor = FINAL_FACTOR + (1 - FINAL_FACTOR) * 0.5 * (1 + math.cos(math.pi * progress))
    elif config.schedule == "step":
        factor = 0.1 ** sum(progress >= milestone for milestone in STEP_MILESTONES)
    else:
        factor = 1.0
    return config.learning_rate * factor * min(1.0, (step + 1) / warmup if warmup > 0 else 1.0)


def set_learning_rate(optimizer: Optimizer, value: float) -> None:
    """Use `value`, times its factor, for every parameter group from the next step on."""
    for group in optimizer.param_groups:
        group["lr"] = value * group["lr_factor"]


def clip_gradients(model: nn.Module, limit: float) -> None:
    """Scale the gradients down to a total norm of `limit`, without a host-device synchronisation; 0: leave them."""
    if limit > 0:
        torch.nn.utils.clip_grad_norm_(model.parameters(), limit, foreach=True)
