"""The state of one training, and its way from one epoch to the next."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tuner.config.errors import ConfigError, WeightsError
from tuner.data.batches import TrainingBatches
from tuner.models.build import build_detector
from tuner.trainers.contract import CHECKPOINT, Diverged, Interrupted, LostState, StopRequested, TrainingTask
from tuner.trainers.detection import checkpoint
from tuner.trainers.detection.ema import Ema
from tuner.trainers.detection.judging import EpochJudge
from tuner.trainers.detection.layout import lay_out
from tuner.trainers.detection.memory import begin_peak_memory
from tuner.trainers.detection.optimizer import build_optimizer, learning_rate, set_learning_rate
from tuner.trainers.detection.precision import Precision, resolve_device
from tuner.trainers.detection.prepared_data import prepared_data
from tuner.trainers.detection.step import TrainStep

CHECK_EVERY = 50
"""Steps between looks at the loss: each look waits for the GPU."""
LOADERS = 4
"""Most threads that make batches for a GPU. Further ones wait for Python's lock: on 16 cores, 16 threads took as long
as four for the same batches (1.2 ms an image of 640 x 480), and the first batch came after 0.25 s instead of 0.11."""


class TrainingRun:
    """The state of one training: what a checkpoint holds, and what a step needs.

    It goes on from the checkpoint in `task.workdir` where there is one.

    Raises:
        ConfigError: The checkpoint there is another experiment's, or was written by another version.
        LostState: The checkpoint was cut off or damaged, and is set aside.
        TunerError: Device, data, model or weights cannot be had.
    """

    def __init__(self, task: TrainingTask) -> None:
        self.task = task
        config = task.config
        self.device = resolve_device(task.device)
        self.precision = Precision(config, self.device)
        self.data = prepared_data(
            task.data, config.image_size, task.cache_dir, task.canvas, task.fingerprint, task.alive
        )
        self.epoch = 0
        self.batch = 0
        self.loss_sums: dict[str, Tensor] = {}
        self.last_losses: dict[str, float] = {}

        torch.manual_seed(task.seed)
        detector = build_detector(config, len(self.data.dataset.train.classes))
        self.detector = detector.to(self.device)
        lay_out(self.detector, self.device)
        begin_peak_memory(self.device)
        self.ema = Ema(self.detector, config.ema_decay)
        self.judge = EpochJudge(task, self.data, self.ema.model, self.precision)
        self.optimizer = build_optimizer(self.detector, config)
        self.step = TrainStep(self.detector, self.optimizer, self.precision, config)
        self.step.micro_batch = min(config.batch_size, task.micro_batch or config.batch_size)
        self.batches = TrainingBatches(
            self.data.dataset.train,
            self.data.train_images,
            config.augment,
            batch_size=config.batch_size,
            seed=task.seed,
            epochs=config.epochs,
            # A GPU must not wait for batches; on the CPU, making them ahead would only take cores from the steps.
            workers=min(task.threads, LOADERS) if self.device.type == "cuda" else 0,
            pin_memory=self.device.type == "cuda",
        )
        self.steps_per_epoch = self.batches.steps_per_epoch
        self._restore()

    @property
    def at_end_of_epoch(self) -> bool:
        """Whether an epoch has just been finished, and none begun."""
        return self.epoch > 0 and self.batch == 0

    @property
    def learning_rate(self) -> float:
        """Of the last step that was made."""
        return learning_rate(self.task.config, self.epoch * self.steps_per_epoch + self.batch - 1, self.steps_per_epoch)

    def train_epoch(self, stop_requested: StopRequested) -> dict[str, float]:
        """Train to the end of the current epoch; returns its mean losses."""
        self.detector.train()
        for batch in self.batches.epoch(self.epoch, start_batch=self.batch):
            if stop_requested():
                self._save()
                raise Interrupted
            self.task.alive(self.batch + 1, self.steps_per_epoch)
            step = self.epoch * self.steps_per_epoch + self.batch
            set_learning_rate(self.optimizer, learning_rate(self.task.config, step, self.steps_per_epoch))
            losses = self.step(batch)
            self.ema.update()
            for name, value in losses.items():
                self.loss_sums[name] = self.loss_sums.get(name, 0) + value
            self.batch += 1
            if self.batch % CHECK_EVERY == 0:
                self._mean_losses()
        self.last_losses = self._mean_losses()
        self.epoch, self.batch, self.loss_sums = self.epoch + 1, 0, {}
        return self.last_losses

    @contextmanager
    def saved(self) -> Iterator[None]:
        """Save; on a GPU while what is done within goes on, which must not change the state.

        A CPU has no time to spare for a second thread.
        """
        if self.device.type == "cpu":
            self._save()
            yield
            return
        with ThreadPoolExecutor(1, thread_name_prefix="checkpoint") as thread:
            saving = thread.submit(checkpoint.save, self._checkpoint, self._state())
            yield
            saving.result()

    def _mean_losses(self) -> dict[str, float]:
        """The epoch's losses so far; the one place that waits for the GPU.

        Raises:
            Diverged: A loss is not a finite number.
        """
        means = {name: float(value) / self.batch for name, value in self.loss_sums.items()}
        for name, value in means.items():
            if not math.isfinite(value):
                raise Diverged(
                    f"the {name} loss became {value} in epoch {self.epoch + 1}, by step {self.batch} of "
                    f"{self.steps_per_epoch}, at learning rate {self.learning_rate:.2g}",
                    hint="A smaller learning rate, a longer warm-up or gradient clipping may help.",
                )
        return means

    def executed(self) -> dict[str, str]:
        """What ran where the config leaves it open, or where memory forced it."""
        executed = {"precision": self.precision.name}
        if self.step.micro_batch < self.task.config.batch_size:
            executed["micro_batch"] = str(self.step.micro_batch)
        return executed

    def _save(self) -> None:
        checkpoint.save(self._checkpoint, self._state())

    @property
    def _checkpoint(self) -> Path:
        return self.task.workdir / CHECKPOINT

    def _state(self) -> dict[str, Any]:
        return {
            "experiment": self._experiment(),
            "epoch": self.epoch,
            "batch": self.batch,
            "loss_sums": self.loss_sums,
            "last_losses": self.last_losses,
            "micro_batch": self.step.micro_batch,
            "model": self.ema.model.state_dict(),
            "detector": self.detector.state_dict(),
            "ema_steps": self.ema.steps,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.precision.scaler.state_dict(),
            "random": checkpoint.random_state(self.device),
        }

    def _restore(self) -> None:
        path = self._checkpoint
        checkpoint.remove_unfinished(path)
        try:
            state = checkpoint.load(path)
        except WeightsError as error:
            if isinstance(error.__cause__, OSError | MemoryError):  # of a network disk, say, which answers later
                raise LostState(f"{error.message}; a later attempt may read it") from error
            aside = checkpoint.set_aside(path)
            if aside is None:
                raise
            raise LostState(
                f"checkpoint {path} was cut off or damaged and is now {aside.name}; training begins again with epoch 1"
            ) from error
        if state is None:
            return
        if state.get("experiment") != self._experiment():
            raise ConfigError(
                f"{self.task.workdir} holds the checkpoint of another config or seed",
                hint="Use another folder, or delete this one.",
            )
        try:
            self._take(state)
        except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
            if isinstance(error, RuntimeError) and "state_dict" not in str(error):
                raise  # the device's fault
            lines = str(error).splitlines() if isinstance(error, RuntimeError) else [repr(error)]
            raise ConfigError(
                f"checkpoint {path} was written by another version of tuner or torch and does not fit this one: "
                + textwrap.shorten(lines[min(1, len(lines) - 1)], 160),
                hint="Go on with the version that began the study, or begin another study with this one.",
            ) from error

    def _take(self, state: dict[str, Any]) -> None:
        """Go on from the state of a checkpoint."""
        self.epoch, self.batch = state["epoch"], state["batch"]
        self.loss_sums = {name: value.to(self.device) for name, value in state["loss_sums"].items()}
        self.last_losses = state["last_losses"]
        self.step.micro_batch = state["micro_batch"]
        self.detector.load_state_dict(state["detector"])
        self.ema.model.load_state_dict(state["model"])
        self.ema.steps = state["ema_steps"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.precision.scaler.load_state_dict(state["scaler"])
        checkpoint.restore_random_state(state["random"], self.device)

    def _experiment(self) -> str:
        return f"{self.task.config.digest()}/{self.task.seed}"
