"""What a worker makes of trainers that end early, or do not keep the contract: with real trial processes."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import odd_trainers
import psutil
import pytest
from hosts import make_study, until
from odd_trainers import GROUP, MESSAGES

from tuner.config.errors import ConfigError, FailureKind
from tuner.config.study import DataSpec
from tuner.config.trial import TrialConfig
from tuner.studies.state.records import TrialState
from tuner.trainers.contract import EpochResult, TrainingTask
from tuner.workers.devices import SlotPlan
from tuner.workers.messages import Ended, EpochReported, Ready, Run, Stop, Verdict
from tuner.workers.slot import Slot, last_lines
from tuner.workers.worker import run_worker

SLOT = [SlotPlan(0, "cpu", 1)]


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[[str], Slot]]:
    """Start a trial process with one of the odd trainers."""
    slots: list[Slot] = []

    def begin(trainer: str) -> Slot:
        slot = Slot(SlotPlan(0, "cpu", 1), f"odd_trainers:{trainer}", folder / "slot.log")
        slots.append(slot)
        slot.start()
        return slot

    yield begin
    for slot in slots:
        slot.kill()


def task_in(folder: Path, seed: int = 0) -> TrainingTask:
    data = DataSpec(train=Path("a"), val=Path("b"))
    return TrainingTask(TrialConfig(epochs=3), seed, data, "cpu", 1, workdir=folder / "0", cache_dir=folder / "cache")


def messages(slot: Slot) -> Iterator[Any]:
    while True:
        assert slot.connection is not None
        wait([slot.connection], timeout=1)
        yield from slot.receive()
        assert slot.exit_code() is None, last_lines(slot.log)


def train(slot: Slot, task: TrainingTask, *, stop_after: int = 0) -> tuple[list[EpochResult], Ended]:
    """Run a trial to its end."""
    slot.send(Run(task))
    epochs: list[EpochResult] = []
    for message in messages(slot):
        if isinstance(message, Ended):
            return epochs, message
        if isinstance(message, EpochReported):
            epochs.append(message.result)
            slot.send(Verdict(prune=False))
            if len(epochs) == stop_after:
                slot.send(Stop())
    raise AssertionError("messages end with an error of their own")


def test_numbers_of_other_libraries_are_taken_as_pythons(start: Callable[[str], Slot], folder: Path) -> None:
    epochs, ended = train(start("numbers"), task_in(folder))
    assert ended == Ended("complete")
    assert [epoch.epoch for epoch in epochs] == [1, 2, 3]
    last = epochs[-1]
    assert (last.losses, last.learning_rate, last.train_seconds, last.eval_seconds) == ({"box": 0.5}, 0.25, 0.5, 1.0)
    assert (last.cpu_seconds, last.peak_memory, last.executed, last.metrics.map) == (2.0, 2**40, {"seed": "3"}, 0.5)
    assert {type(value) for value in (last.learning_rate, last.metrics.map, last.losses["box"])} == {float}
    assert {type(value) for value in (last.epoch, last.peak_memory)} == {int}


ITERATOR = "expected an iterator of EpochResult: let it `yield` one after each epoch"


@pytest.mark.parametrize(
    ("trainer", "epochs", "kind", "message"),
    [
        ("nothing", 0, FailureKind.ERROR, "the trainer reported no epoch"),
        ("none", 0, FailureKind.ERROR, f"the trainer returned None, {ITERATOR}"),
        ("number", 0, FailureKind.ERROR, f"the trainer returned a float, {ITERATOR}"),
        ("no_number", 1, FailureKind.DIVERGED, "metrics.map: should be a finite number, found nan"),
        ("from_zero", 0, FailureKind.ERROR, "epoch is 0 as the first of this attempt, expected the whole number 1"),
        ("because", 1, FailureKind.ERROR, "because"),
        ("exits", 1, FailureKind.ERROR, "RuntimeError: the trainer called sys.exit(2) (traceback in {error.log})"),
        ("exits_well", 0, FailureKind.ERROR, "the trainer reported no epoch"),
    ],
)
def test_what_a_trainer_does_wrong_is_named_and_costs_its_trial_alone(
    start: Callable[[str], Slot], folder: Path, trainer: str, epochs: int, kind: FailureKind, message: str
) -> None:
    slot = start(trainer)
    for _ in range(2):  # the process lives on
        reported, ended = train(slot, task_in(folder))
        assert (len(reported), ended.outcome, ended.kind) == (epochs, "failed", kind)
        log = folder / "0" / "error.log"
        assert ended.message.splitlines()[0] == message.replace("{error.log}", str(log))


def test_a_trainer_that_is_no_import_path_is_refused_at_once(data: DataSpec, folder: Path) -> None:
    study = make_study(data, f"sqlite:///{folder}/tuner.db")
    itself: Any = odd_trainers.one_epoch
    with pytest.raises(ConfigError, match=r"function one_epoch .* is not of the form package\.module:callable"):
        run_worker(study, slots=SLOT, trainer=itself)
    study.close()


def test_a_trainer_that_returns_when_it_shall_stop_is_interrupted(start: Callable[[str], Slot], folder: Path) -> None:
    assert train(start("returns"), task_in(folder), stop_after=1)[1] == Ended("interrupted")


def test_trainers_without_an_epoch_end_the_worker_with_the_reason(data: DataSpec, folder: Path) -> None:
    study = make_study(data, f"sqlite:///{folder}/tuner.db", budget={"trials": 9})
    report = run_worker(study, slots=SLOT, trainer="odd_trainers:nothing")
    assert (report.reason, report.failed) == ("failed", 3)
    assert report.message.endswith("the last with error: the trainer reported no epoch")
    assert {(trial.state, trial.value) for trial in study.trials()} == {(TrialState.FAILED, None)}
    study.close()


def test_a_message_that_no_database_takes_fails_its_trial_and_the_run_goes_on(
    data: DataSpec, folder: Path, database_url: str
) -> None:
    study = make_study(data, database_url)
    report = run_worker(study, slots=SLOT, trainer="odd_trainers:unstorable")
    assert (report.reason, report.failed, report.complete) == ("finished", 2, 1)
    long, odd, fine = study.trials()
    assert (long.state, odd.state, fine.state) == (TrialState.FAILED, TrialState.FAILED, TrialState.COMPLETE)
    assert long.reason is not None
    assert len(long.reason) == 5000
    assert re.fullmatch(r"RuntimeError: 🙂+…🙂+ \(traceback in .*error\.log\)", long.reason)
    assert odd.reason is not None
    assert odd.reason.startswith(r"RuntimeError: caf\udce9\x00.jpg cannot be read (traceback in ")
    for trial, message in zip((long, odd), MESSAGES, strict=False):
        assert trial.attempts[-1].message == trial.reason  # one before may have lost its process on a busy machine
        assert study.optuna.trials[trial.number].user_attrs["reason"] == trial.reason
        log = study.folder / "trials" / str(trial.number) / "error.log"
        assert message.replace("\udce9", r"\udce9") in log.read_text(encoding="utf-8")
    study.close()


@pytest.mark.parametrize("metric", ["map", "f1"])
def test_a_trainer_may_end_early_with_all_that_the_study_needs(data: DataSpec, folder: Path, metric: str) -> None:
    study = make_study(data, f"sqlite:///{folder}/tuner.db", budget={"trials": 1}, objective={"metric": metric})
    report = run_worker(study, slots=SLOT, trainer="odd_trainers:one_epoch")
    trial = study.trials()[0]
    if metric == "map":
        assert (report.complete, trial.state, trial.value, trial.last_epoch) == (1, TrialState.COMPLETE, 0.5, 1)
    else:  # the trainer has an operating point after the last epoch alone
        assert (report.failed, trial.state, trial.kind) == (1, TrialState.FAILED, FailureKind.ERROR)
        assert trial.reason is not None
        what, remedy = trial.reason.splitlines()
        assert what == "the trainer ended with epoch 1 of 4 and without the metric f1"
        assert remedy.startswith("A trainer that ends early")
    study.close()


def gone(process: psutil.Process) -> bool:
    """Whether a process has died; nobody may be there to bury it."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("end", ["kill", "death", "stop", "orphan"])
def test_no_subprocess_outlives_its_trial_process(start: Callable[[str], Slot], folder: Path, end: str) -> None:
    slot, task = start("wrapper"), task_in(folder, seed=int(end == "orphan"))
    slot.send(Run(task))
    heard = messages(slot)
    assert next(heard) == Ready()
    assert isinstance(next(heard), EpochReported)
    assert slot.pid is not None
    process, child = psutil.Process(slot.pid), psutil.Process(int((task.workdir / GROUP).read_text()))
    assert not gone(child)
    slot.send(Verdict(prune=False))
    if end == "kill":
        slot.kill()
    elif end == "death":  # as by the system where memory runs out
        os.kill(slot.pid, signal.SIGKILL)
        until(lambda: slot.exit_code() is not None)
        slot.bury()
    else:  # the worker is gone, or was killed: nobody buries the process
        assert slot.connection is not None
        slot.connection.close()
        until(lambda: gone(process))
    until(lambda: gone(child), seconds=30)


def test_a_full_disk_without_a_message_pauses_the_study_like_any_other(data: DataSpec, folder: Path) -> None:
    study = make_study(data, f"sqlite:///{folder}/tuner.db")
    report = run_worker(study, slots=SLOT, trainer="odd_trainers:silent")
    assert report.reason == "paused"
    assert report.message.endswith("cannot write: DiskFull, without a message")
    assert study.orders().control == "paused"
    study.close()


def test_a_trials_folder_that_cannot_be_used_pauses_the_study_and_costs_no_trial(data: DataSpec, folder: Path) -> None:
    study = make_study(data, f"sqlite:///{folder}/tuner.db")
    mine = study.folder / "trials" / "0"
    for file in (mine / "results.jsonl", mine):
        report = run_worker(study, slots=SLOT, trainer="odd_trainers:replaced")
        assert (report.reason, report.failed) == ("paused", 0)
        assert re.fullmatch(rf"\S+ cannot write: {re.escape(str(file))} cannot be used: .+", report.message)
        study.resume()
    mine.unlink()
    assert run_worker(study, slots=SLOT, trainer="odd_trainers:replaced").complete == 3
    assert [attempt.outcome for attempt in study.trials()[0].attempts] == ["disk", "disk", "complete"]
    study.close()
