"""What a trial's folder remembers of its epochs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_trainer import result

from tuner.config.study import DataSpec
from tuner.config.trial import TrialConfig
from tuner.trainers.contract import CHECKPOINT, TrainingTask
from tuner.workers.devices import SlotPlan
from tuner.workers.messages import Ended, EpochReported, Run, Verdict
from tuner.workers.results import RESULTS, read_results, write_result
from tuner.workers.slot import Slot


@pytest.fixture
def task(tmp_path: Path) -> TrainingTask:
    return TrainingTask(
        TrialConfig(epochs=4), 0, DataSpec(train=Path("a"), val=Path("b")), "cpu", 1,
        workdir=tmp_path / "trials" / "0", cache_dir=tmp_path / "cache",
    )  # fmt: skip


def test_epochs_are_read_as_they_were_written(task: TrainingTask) -> None:
    task.workdir.mkdir(parents=True)
    assert read_results(task.workdir, 1) == []
    written = [result(task, epoch, epoch / 7) for epoch in (1, 2, 2, 4)]
    for one in written:
        write_result(task.workdir, one)
    with (task.workdir / RESULTS).open("a") as file:
        file.write('{"epoch": 3, "metr')
    assert read_results(task.workdir, 1) == [written[0], written[2]]
    assert read_results(task.workdir, 2) == [written[2]]
    assert read_results(task.workdir, 3) == []  # the third is missing, so the fourth does not follow
    assert read_results(task.workdir, 4) == [written[3]]
    write_result(task.workdir, third := result(task, 3, 0.5))
    assert read_results(task.workdir, 3) == [third, written[3]]


@pytest.fixture
def reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Run], list[int]]]:
    """Run a trial in a process of its own: the epochs that it reports."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    slot = Slot(SlotPlan(0, "cpu", 1), "fake_trainer:train", tmp_path / "slot.log")
    slot.start()

    def run(order: Run) -> list[int]:
        epochs = []
        slot.send(order)
        while True:
            for message in slot.receive():
                if isinstance(message, EpochReported):
                    epochs.append(message.result.epoch)
                    slot.send(Verdict(prune=False))
                elif isinstance(message, Ended):
                    assert message == Ended("complete")
                    return epochs

    yield run
    slot.hang_up()
    slot.wait(10)


def test_epochs_that_the_database_never_got_are_reported_by_the_next_attempt(
    task: TrainingTask, reported: Callable[[Run], list[int]]
) -> None:
    task.workdir.mkdir(parents=True)
    (task.workdir / CHECKPOINT).write_text(json.dumps([0.1, 0.2, 0.3]))
    for epoch in (1, 2, 3):
        write_result(task.workdir, result(task, epoch, epoch / 10))
    assert reported(Run(dataclasses.replace(task, first_epoch=2))) == [2, 3, 4]


def test_what_another_study_left_in_the_folder_is_not_taken_up(
    task: TrainingTask, reported: Callable[[Run], list[int]]
) -> None:
    task.workdir.mkdir(parents=True)
    (task.workdir / CHECKPOINT).write_text(json.dumps([0.1, 0.2, 0.3, 0.4]))
    assert reported(Run(task, anew=True, study="cells of 7.0")) == [1, 2, 3, 4]
    # An attempt on a host where a deleted study of that name left its trials, epochs and all.
    later = dataclasses.replace(task, first_epoch=2)
    write_result(task.workdir, result(task, 4, 0.9))
    assert reported(Run(later, study="cells of 8.0")) == [1, 2, 3, 4]
    assert reported(Run(later, study="cells of 8.0")) == [2, 3, 4]
    assert reported(Run(later, study="renamed-cells of 8.0")) == [2, 3, 4]
