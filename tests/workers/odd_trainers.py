"""Trainers that end early, or do not keep the contract: each is wrong in one way, and its name says in which."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from fake_trainer import result, train

from tuner.trainers.contract import DiskFull, EpochResult, Interrupted, StopRequested, TrainingTask, TrialFailed
from tuner.workers import mailbox

GROUP = "group.txt"
"""File in a trial's folder with the id of its trainer's subprocess."""


def nothing(task: TrainingTask, stop_requested: StopRequested) -> Iterator[EpochResult]:
    return iter(())


def none(task: TrainingTask, stop_requested: StopRequested) -> None:
    """Trains, and forgets to tell."""


def number(task: TrainingTask, stop_requested: StopRequested) -> float:
    return 0.5


def dies(task: TrainingTask, stop_requested: StopRequested) -> Iterator[EpochResult]:
    os._exit(7)


def exits(task: TrainingTask, stop_requested: StopRequested) -> Iterator[EpochResult]:
    """As a script does whose arguments are wrong."""
    yield result(task, 1, 0.5)
    sys.exit(2)


def exits_well(task: TrainingTask, stop_requested: StopRequested) -> list[EpochResult]:
    """As a script does at its end."""
    sys.exit()


def one_epoch(task: TrainingTask, stop_requested: StopRequested) -> Iterator[EpochResult]:
    yield result(task, 1, 0.5)


def numbers(task: TrainingTask, stop_requested: StopRequested) -> Iterator[EpochResult]:
    """Reports numbers of NumPy and torch."""
    import torch

    for epoch in range(1, task.config.epochs + 1):
        value: Any = torch.tensor(0.5)
        yield EpochResult(
            np.int64(epoch), result(task, epoch, value).metrics, {"box": value}, np.float32(0.25), torch.tensor([0.5]),
            np.array(1), torch.tensor(2), torch.tensor(2**40), {"seed": np.int8(3)},
        )  # fmt: skip


def no_number(task: TrainingTask, stop_requested: StopRequested) -> Iterator[EpochResult]:
    """Its metrics are no numbers from the second epoch on."""
    yield result(task, 1, 0.5)
    yield result(task, 2, math.nan)


def from_zero(task: TrainingTask, stop_requested: StopRequested) -> Iterator[EpochResult]:
    for epoch in range(task.config.epochs):
        yield replace(result(task, 1, 0.5), epoch=epoch)


def because(task: TrainingTask, stop_requested: StopRequested) -> Iterator[EpochResult]:
    yield result(task, 1, 0.5)
    raise TrialFailed("because")


def silent(task: TrainingTask, stop_requested: StopRequested) -> Iterator[EpochResult]:
    """Does not say what is wrong with its disk."""
    yield result(task, 1, 0.5)
    raise DiskFull("")


def replaced(task: TrainingTask, stop_requested: StopRequested) -> Iterator[EpochResult]:
    """Its folder becomes a file in the first epoch, the first time."""
    if (task.cache_dir / "replaced").exists():
        yield from train(task, stop_requested)
        return
    task.cache_dir.mkdir(exist_ok=True)
    (task.cache_dir / "replaced").touch()
    shutil.rmtree(task.workdir)
    task.workdir.touch()
    yield result(task, 1, 0.5)


MESSAGES = ("🙂" * 100_000, "caf\udce9\0.jpg cannot be read")
"""What no database takes as it is, by number of the trial."""


def unstorable(task: TrainingTask, stop_requested: StopRequested) -> Iterator[EpochResult]:
    yield result(task, 1, 0.5)
    if int(task.workdir.name) < len(MESSAGES):
        raise RuntimeError(MESSAGES[int(task.workdir.name)])


def returns(task: TrainingTask, stop_requested: StopRequested) -> Iterator[EpochResult]:
    """Returns where it should raise `Interrupted`."""
    yield result(task, 1, 0.5)
    while not stop_requested():
        time.sleep(0.05)


def wrapper(task: TrainingTask, stop_requested: StopRequested) -> Iterator[EpochResult]:
    """Leaves the training to a subprocess, which it does not end."""
    mailbox.ORPHAN_GRACE = 0.5
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    (task.workdir / GROUP).write_text(str(child.pid))
    yield result(task, 1, 0.5)
    while not stop_requested() or task.seed:  # with another seed it does not hear
        time.sleep(0.05)
    raise Interrupted
