"""The built-in trainer: from a `TrainingTask` to one `EpochResult` after another."""

from __future__ import annotations

import math
import textwrap
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from tuner.config.errors import ConfigError, DataError, WeightsError
from tuner.data.batches import TrainingBatches
from tuner.models.build import build_detector
from tuner.trainers.contract import (
    BadConfig,
    BadData,
    Diverged,
    EpochResult,
    Interrupted,
    LostState,
    StopRequested,
    TrainingTask,
)
from tuner.trainers.detection import checkpoint
from tuner.trainers.detection.ema import Ema
from tuner.trainers.detection.judging import EpochJudge
from tuner.trainers.detection.memory import keep_freed_memory
from tuner.trainers.detection.optimizer import build_optimizer, learning_rate, set_learning_rate
from tuner.trainers.detection.precision import Precision, begin_peak_memory, peak_memory, resolve_device
from tuner.trainers.detection.prepared_data import prepared_data
from tuner.trainers.detection.step import TrainStep

CHECK_EVERY = 50
"""Steps between looks at the loss: each look waits for the GPU."""


def train(task: TrainingTask, stop_requested: StopRequested) -> Iterator[EpochResult]:
    """Train and judge a trial, epoch by epoch, from its last checkpoint if it has one; see `Trainer`.

    After each epoch `task.workdir` holds the checkpoint; once the generator ends or is closed, it also holds
    the raw validation predictions of the last epoch (`judging.EVIDENCE`).

    A checkpoint at the end of an epoch does not say whether that epoch's result arrived, so a continued training
    first judges it and yields it again, unless `task.first_epoch` says that it did.
    """
    torch.set_num_threads(task.threads)
    keep_freed_memory()
    try:
        run = _Run(task)
    except (ConfigError, WeightsError) as error:
        raise BadConfig(error.message, hint=error.hint) from error
    except DataError as error:
        raise BadData(error.message, hint=error.hint) from error
    try:
        judged = not run.at_end_of_epoch or run.epoch < min(task.first_epoch, task.config.epochs)
        while run.epoch < task.config.epochs or not judged:
            started = time.perf_counter(), time.process_time()
            losses = run.train_epoch(stop_requested) if judged else run.last_losses
            judged = True
            trained = time.perf_counter()
            metrics = run.judge(run.epoch, last=run.epoch == task.config.epochs)
            yield EpochResult(
                epoch=run.epoch,
                metrics=metrics,
                losses=losses,
                learning_rate=run.learning_rate,
                train_seconds=trained - started[0],
                eval_seconds=time.perf_counter() - trained,
                cpu_seconds=time.process_time() - started[1],
                peak_memory=max(run.judge.peak_memory, peak_memory(run.device)),
                executed=run.executed(),
            )
    finally:
        run.judge.save_evidence()


class _Run:
    """The state of one training: what a checkpoint holds, and what a step needs."""

    def __init__(self, task: TrainingTask) -> None:
        self.task = task
        config = task.config
        self.device = resolve_device(task.device)
        self.precision = Precision(config, self.device)
        self.data = prepared_data(task.data, config.image_size, task.cache_dir)
        self.epoch = 0
        self.batch = 0
        self.loss_sums: dict[str, Tensor] = {}
        self.last_losses: dict[str, float] = {}

        torch.manual_seed(task.seed)
        detector = build_detector(config, len(self.data.dataset.train.classes))
        self.detector = detector.to(self.device).to(memory_format=torch.channels_last)
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
            workers=task.threads if self.device.type == "cuda" else 0,
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
        """Train to the end of the current epoch and save; returns the epoch's mean losses."""
        self.detector.train()
        for batch in self.batches.epoch(self.epoch, start_batch=self.batch):
            if stop_requested():
                self._save()
                raise Interrupted
            step = self.epoch * self.steps_per_epoch + self.batch
            set_learning_rate(self.optimizer, learning_rate(self.task.config, step, self.steps_per_epoch))
            losses = self.step(batch.to(self.device))
            self.ema.update()
            for name, value in losses.items():
                self.loss_sums[name] = self.loss_sums.get(name, 0) + value
            self.batch += 1
            if self.batch % CHECK_EVERY == 0:
                self._mean_losses()
        self.last_losses = self._mean_losses()
        self.epoch, self.batch, self.loss_sums = self.epoch + 1, 0, {}
        self._save()
        return self.last_losses

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
        checkpoint.save(
            self.task.workdir / checkpoint.CHECKPOINT,
            {
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
            },
        )

    def _restore(self) -> None:
        path = self.task.workdir / checkpoint.CHECKPOINT
        checkpoint.remove_unfinished(path)
        try:
            state = checkpoint.load(path)
        except WeightsError as error:
            aside = checkpoint.set_aside(path)
            if aside is None:
                raise
            raise LostState(
                f"checkpoint {path} was cut off and is now {aside.name}; the trial begins again with epoch 1"
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
