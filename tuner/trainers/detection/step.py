"""One optimiser step on one batch, whatever memory it takes."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.optim import Optimizer

from tuner.config.trial import TrialConfig
from tuner.data.batch import Batch
from tuner.models.detector import Detector
from tuner.trainers.detection.fitting import as_many_as_fit
from tuner.trainers.detection.optimizer import clip_gradients
from tuner.trainers.detection.precision import Precision


class TrainStep:
    """Forward, backward and update, with gradient accumulation where the whole batch does not fit.

    Out of GPU memory halves the micro-batch and repeats the batch (decision 8); the effective batch, and so the
    meaning of the hyperparameters, stays: gradients are the whole batch's (Faster R-CNN's nearly, as far as its random
    samples allow). Only batch norms see micro-batches. Where losses are divided by what the batch holds, such as the
    anchors of its objects, the parts first go through the network without gradients to learn by how much, which makes
    a step a third longer.

    Attributes:
        micro_batch: Images that go through the network at once.
    """

    def __init__(self, detector: Detector, optimizer: Optimizer, precision: Precision, config: TrialConfig) -> None:
        self.detector = detector
        self.optimizer = optimizer
        self.precision = precision
        self.config = config
        self.micro_batch = config.batch_size

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """Train on a batch, wherever it is; returns the loss terms, still on the device.

        Raises:
            OutOfMemory: Not even one image fits.
        """
        losses, self.micro_batch = as_many_as_fit(self.micro_batch, partial(self._backward, batch))
        scaler = self.precision.scaler
        if self.config.gradient_clip > 0:
            scaler.unscale_(self.optimizer)
            clip_gradients(self.detector, self.config.gradient_clip)
        scaler.step(self.optimizer)
        scaler.update()
        return losses

    def _backward(self, batch: Batch, micro_batch: int) -> dict[str, Tensor]:
        self.optimizer.zero_grad(set_to_none=True)  # those of an attempt that did not fit, too
        batch = batch.to(self.precision.device)
        total: dict[str, Tensor] = {}
        count = len(batch.images)
        parts = [slice(start, start + micro_batch) for start in range(0, count, micro_batch)]
        shares = self._shares(batch, parts) if len(parts) > 1 else [{}]
        for part, share in zip(parts, shares, strict=True):
            images = batch.images[part]
            with self.precision.autocast():
                losses = self.detector.losses(images, batch.boxes[part], batch.labels[part])
            losses = {name: value * share.get(name, len(images) / count) for name, value in losses.items()}
            loss = torch.stack(list(losses.values())).sum()
            self.precision.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            for name, value in losses.items():
                total[name] = total.get(name, 0) + value.detach()
        return total

    @torch.no_grad()
    def _shares(self, batch: Batch, parts: list[slice]) -> list[dict[str, Tensor]]:
        """By what the losses of each part are to be multiplied so that their sum is the whole batch's loss.

        Terms that are means over the images are left out.
        """
        buffers = list(self.detector.buffers())
        before = [buffer.clone() for buffer in buffers]
        found = []
        for part in parts:
            with self.precision.autocast():
                found.append(self.detector.divisors(batch.images[part], batch.boxes[part], batch.labels[part]))
        for buffer, value in zip(buffers, before, strict=True):
            buffer.copy_(value)  # batch norms are to count each image once
        whole = {name: torch.stack([each[name] for each in found]).sum().clamp(min=1) for name in found[0]}
        return [{name: value.clamp(min=1) / whole[name] for name, value in each.items()} for each in found]
