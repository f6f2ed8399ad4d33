"""The built-in trainer: from a `TrainingTask` to one `EpochResult` after another."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import nullcontext

import torch

from tuner.config.errors import ConfigError, DataError, WeightsError
from tuner.trainers.contract import BadConfig, BadData, EpochResult, OutOfMemory, StopRequested, TrainingTask
from tuner.trainers.detection.cuda_errors import is_out_of_memory
from tuner.trainers.detection.memory import keep_freed_memory, peak_memory
from tuner.trainers.detection.run import TrainingRun


def train(task: TrainingTask, stop_requested: StopRequested) -> Iterator[EpochResult]:
    """Train and judge a trial, epoch by epoch, from its last checkpoint if it has one; see `Trainer`.

    After each epoch `task.workdir` holds the checkpoint and what was detected on the validation images
    (`tuner.trainers.contract.DETECTIONS`).

    A checkpoint at the end of an epoch does not say whether that epoch's result arrived, so a continued training
    first judges it and yields it again, unless `task.first_epoch` says that it did.
    """
    torch.set_num_threads(task.threads)
    keep_freed_memory()
    try:
        run = TrainingRun(task)
    except (ConfigError, WeightsError) as error:
        raise BadConfig(error.message, hint=error.hint) from error
    except DataError as error:
        raise BadData(error.message, hint=error.hint) from error
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(
            f"{task.config.model} does not fit into memory with its optimiser: {str(error).splitlines()[0]}",
            hint="Free what other processes hold, or use a smaller model.",
        ) from error
    try:
        judged = not run.at_end_of_epoch or run.epoch < min(task.first_epoch, task.config.epochs)
        while run.epoch < task.config.epochs or not judged:
            started = time.perf_counter(), time.process_time()
            losses = run.train_epoch(stop_requested) if judged else run.last_losses
            with run.saved() if judged else nullcontext():
                judged, trained = True, time.perf_counter()
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
        run.batches.close()
