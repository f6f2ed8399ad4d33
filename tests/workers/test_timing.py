"""How long an epoch takes, timed in real trial processes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_trainer import result

from tuner.config.study import DataSpec
from tuner.config.trial import TrialConfig
from tuner.trainers.contract import EpochResult, StopRequested, TrainingTask
from tuner.workers.devices import SlotPlan
from tuner.workers.messages import Alive
from tuner.workers.signs import SIGN_SECONDS
from tuner.workers.timing import TimingFailed, Told, time_epoch

TOOK = 0.05
"""Seconds of each epoch, as the fake trainer says; it has slept for as long."""


def one_epoch(task: TrainingTask, stop_requested: StopRequested) -> Iterator[EpochResult]:
    """A trainer that ends early, as its contract allows."""
    yield result(task, 1, 0.5)


def nothing(task: TrainingTask, stop_requested: StopRequested) -> Iterator[EpochResult]:
    return iter(())


def counting(task: TrainingTask, stop_requested: StopRequested) -> Iterator[EpochResult]:
    """A trainer that says how far it is, once an epoch (a sign that comes soon after another one is not sent)."""
    for epoch in (1, 2):
        task.alive(epoch, 4)
        time.sleep(1.2 * SIGN_SECONDS)
        yield result(task, epoch, 0.5)


def timed(folder: Path, trainer: str, epochs: int, told: Told = lambda epoch, sign: None) -> float:
    data = DataSpec(train=Path("a"), val=Path("b"))
    plans = [SlotPlan(index, "cpu", 1) for index in range(2)]
    return time_epoch(TrialConfig(epochs=epochs), data, plans, trainer, folder, long=100.0, told=told)


@pytest.mark.parametrize("epochs", [1, 2, 5])
def test_trials_of_any_length_are_timed(folder: Path, epochs: int) -> None:
    assert timed(folder, "fake_trainer:train", epochs) >= TOOK
    for slot in range(2):
        trained = (folder / f"slot-{slot}" / "worked.txt").read_text().splitlines()
        assert len(trained) >= 2  # the first warms up


def test_the_only_epoch_of_a_trainer_that_ends_early_is_taken(folder: Path) -> None:
    assert timed(folder, "test_timing:one_epoch", 5) == pytest.approx(TOOK)


def test_who_waits_is_told_of_the_first_slot_how_far_it_is(folder: Path) -> None:
    heard: list[tuple[int, Alive]] = []
    timed(folder, "test_timing:counting", 2, lambda *progress: heard.append(progress))
    assert heard[:2] == [(1, Alive(1, 4)), (2, Alive(2, 4))]


def test_a_trainer_without_an_epoch_cannot_be_timed(folder: Path) -> None:
    with pytest.raises(TimingFailed, match="the trainer reported no epoch"):
        timed(folder, "test_timing:nothing", 5)
