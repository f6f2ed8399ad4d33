"""A slot's process: messages, outcomes and ends, with real processes and a fake trainer."""

import json
import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait
from pathlib import Path

import pytest

from tuner.config.errors import DeviceError, FailureKind
from tuner.config.study import DataSpec
from tuner.config.trial import TrialConfig
from tuner.trainers.contract import TrainingTask
from tuner.workers.devices import SlotPlan
from tuner.workers.mailbox import ORPHAN_GRACE
from tuner.workers.messages import Alive, Ended, EpochReported, Ready, Run, Stop, ToWorker, Verdict
from tuner.workers.signs import SIGN_SECONDS, at_most_every
from tuner.workers.slot import MAX_STARTS, Slot, describe_exit, environment, last_lines


@pytest.fixture
def slot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Slot]:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    slot = Slot(SlotPlan(0, "cpu", 1), "fake_trainer:train", tmp_path / "slot.log")
    yield slot
    slot.hang_up()
    slot.wait(10)


@pytest.fixture
def task(tmp_path: Path) -> Callable[..., TrainingTask]:
    def make(number: int = 0, epochs: int = 3, **plan: object) -> TrainingTask:
        (tmp_path / "plan.json").write_text(json.dumps({str(number): plan}))
        return TrainingTask(
            TrialConfig(epochs=epochs), number, DataSpec(train=Path("a"), val=Path("b")), "cpu", 1,
            workdir=tmp_path / str(number), cache_dir=tmp_path / "cache",
        )  # fmt: skip

    return make


def hear(slot: Slot) -> ToWorker:
    """The next message; fails the test when the process dies instead."""
    while True:
        assert slot.connection is not None
        wait([slot.connection], timeout=1)
        messages = slot.receive()
        if messages:
            assert len(messages) == 1
            return messages[0]
        assert slot.exit_code() is None, last_lines(slot.log)


def run(slot: Slot, task: TrainingTask) -> tuple[list[int], Ended]:
    """Run a trial to its end, never pruning: the epochs and how it ended."""
    slot.send(Run(task))
    epochs = []
    while not isinstance(message := hear(slot), Ended):
        if isinstance(message, EpochReported):
            epochs.append(message.result.epoch)
            slot.send(Verdict(prune=False))
    return epochs, message


def wait_for_death(slot: Slot) -> int:
    while (code := slot.exit_code()) is None:
        time.sleep(0.01)
    return code


def test_one_process_trains_trial_after_trial(slot: Slot, task: Callable[..., TrainingTask]) -> None:
    slot.start()
    pid = slot.pid
    assert hear(slot) == Ready()
    assert run(slot, task(0)) == ([1, 2, 3], Ended("complete"))
    assert run(slot, task(1, epochs=2)) == ([1, 2], Ended("complete"))
    assert slot.pid == pid != os.getpid()


def test_a_verdict_prunes(slot: Slot, task: Callable[..., TrainingTask]) -> None:
    slot.start()
    slot.send(Run(task()))
    assert hear(slot) == Ready()
    assert isinstance(hear(slot), EpochReported)
    slot.send(Verdict(prune=True))
    assert hear(slot) == Ended("pruned")


def test_signs_of_life_reach_the_worker_seldom(slot: Slot, task: Callable[..., TrainingTask]) -> None:
    slot.start()
    assert hear(slot) == Ready()
    started = time.monotonic()
    slot.send(Run(task(epochs=1, action="work", long=2.5 * SIGN_SECONDS)))  # it gives ten in a second
    heard: list[ToWorker] = []
    while not any(isinstance(message, EpochReported) for message in heard):
        assert slot.connection is not None
        wait([slot.connection], timeout=1)
        heard += slot.receive()
        assert slot.exit_code() is None, last_lines(slot.log)
    assert heard[:-1] == [Alive()] * (len(heard) - 1)
    assert 2 <= len(heard) - 1 <= 1 + (time.monotonic() - started) / SIGN_SECONDS


def test_a_sign_of_life_says_how_far_the_trial_is(slot: Slot, task: Callable[..., TrainingTask]) -> None:
    slot.start()
    assert hear(slot) == Ready()
    slot.send(Run(task(epochs=1, action="work", long=0.01, counts=[3, 5])))
    sign = hear(slot)
    assert sign == Alive(3, 5, "training")
    assert type(sign.done) is type(sign.total) is int  # and not NumPy's, which the trainer counts in


def test_a_sign_that_comes_too_soon_is_not_given() -> None:
    given = []
    alive = at_most_every(60.0, lambda *count: given.append(count))
    for batch in range(1000):
        alive(batch + 1, 1000)
    assert given == [(1, 1000, "training")]


def test_stop_saves_and_the_next_run_goes_on(slot: Slot, task: Callable[..., TrainingTask]) -> None:
    slot.start()
    slot.send(Run(task(epochs=4)))
    assert hear(slot) == Ready()
    assert isinstance(hear(slot), EpochReported)
    slot.send(Stop())
    slot.send(Verdict(prune=False))
    assert hear(slot) == Ended("interrupted")
    # The stop was for that run alone; the epoch that was reported last is reported again.
    assert run(slot, task(epochs=4)) == ([1, 2, 3, 4], Ended("complete"))


def test_a_process_that_waits_for_a_verdict_ends_with_its_worker(slot: Slot, task: Callable[..., TrainingTask]) -> None:
    slot.start()
    slot.send(Run(task(epochs=4)))
    assert hear(slot) == Ready()
    assert isinstance(hear(slot), EpochReported)
    slot.hang_up()
    started = time.monotonic()
    assert wait_for_death(slot) == 0
    assert time.monotonic() - started < ORPHAN_GRACE / 2


def test_a_trial_waits_while_its_worker_is_silent(
    tmp_path: Path, task: Callable[..., TrainingTask], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    silent = Slot(SlotPlan(0, "cpu", 1), "fake_trainer:train", tmp_path / "silent.log", silence=0.5)
    silent.start()
    assert hear(silent) == Ready()
    silent.send(Run(task(epochs=1, seconds=2.0)))
    assert silent.connection is not None
    assert not wait([silent.connection], timeout=5)
    deadline = time.monotonic() + 60
    while not wait([silent.connection], timeout=0.1):
        silent.send(Alive())
        assert time.monotonic() < deadline
    assert isinstance(hear(silent), EpochReported)
    silent.hang_up()
    silent.wait(10)


def test_a_terminals_interrupt_is_the_workers_business_and_sigterm_saves(
    slot: Slot, task: Callable[..., TrainingTask]
) -> None:
    slot.start()
    assert hear(slot) == Ready()
    assert slot.pid is not None
    slot.send(Run(task()))
    assert isinstance(hear(slot), EpochReported)
    os.kill(slot.pid, signal.SIGINT)
    slot.send(Verdict(prune=False))
    assert isinstance(hear(slot), EpochReported)
    os.kill(slot.pid, signal.SIGTERM)
    slot.send(Verdict(prune=False))
    assert hear(slot) == Ended("interrupted")


@pytest.mark.parametrize(
    ("action", "kind"),
    [
        ("OutOfMemory", FailureKind.OUT_OF_MEMORY),
        ("Diverged", FailureKind.DIVERGED),
        ("BadData", FailureKind.BAD_DATA),
        ("BadConfig", FailureKind.BAD_CONFIG),
        ("DiskFull", FailureKind.DISK),
        ("BrokenDevice", FailureKind.DEVICE),
        ("full disk", FailureKind.DISK),
        ("bug", FailureKind.ERROR),
    ],
)
def test_every_failure_has_its_kind_and_the_process_lives_on(
    slot: Slot, task: Callable[..., TrainingTask], action: str, kind: FailureKind
) -> None:
    slot.start()
    assert hear(slot) == Ready()
    failing = task(0, action=action, epoch=2)
    epochs, ended = run(slot, failing)
    assert (epochs, ended.outcome, ended.kind) == ([1], "failed", kind)
    assert ended.message
    if action == "bug":
        log = failing.workdir / "error.log"
        assert str(log) in ended.message
        assert "nobody foresaw this" in log.read_text()
        assert "misbehave" in log.read_text()
    assert run(slot, task(1))[1] == Ended("complete")


@pytest.mark.parametrize(("action", "how"), [("exit", "exit code 7"), ("sigkill", "SIGKILL")])
def test_a_death_is_named(slot: Slot, task: Callable[..., TrainingTask], action: str, how: str) -> None:
    slot.start()
    assert hear(slot) == Ready()
    slot.send(Run(task(action=action)))
    assert describe_exit(wait_for_death(slot)).startswith(how)
    slot.bury()
    assert not slot.up
    assert not slot.given_up
    slot.start()
    assert hear(slot) == Ready()


def test_a_trainer_that_cannot_be_imported_is_given_up(tmp_path: Path) -> None:
    slot = Slot(SlotPlan(0, "cpu", 1), "no_such_module:train", tmp_path / "slot.log")
    starts = []
    for _ in range(MAX_STARTS):
        assert not slot.given_up
        slot.start()
        assert describe_exit(wait_for_death(slot)) == "exit code 1"
        slot.bury()
        starts.append(slot.start_at - time.monotonic())
    assert slot.given_up
    assert starts == sorted(starts)
    assert "no_such_module" in last_lines(slot.log, 1)


def test_a_file_of_the_current_folder_is_a_trainer_but_no_module_of_pythons(
    tmp_path: Path, task: Callable[..., TrainingTask], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "working"
    folder.mkdir()
    shutil.copy(Path(__file__).with_name("fake_trainer.py"), folder / "trainer_of_mine.py")
    for name in ("tokenize", "queue", "yaml"):
        (folder / f"{name}.py").write_text("raise RuntimeError('of the user')")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])  # as the command has it
    slot = Slot(SlotPlan(0, "cpu", 1), "trainer_of_mine:train", tmp_path / "slot.log")
    slot.start()
    assert hear(slot) == Ready()
    assert run(slot, task(epochs=1))[1] == Ended("complete")
    slot.hang_up()
    slot.wait(10)


def test_a_process_whose_worker_is_gone_saves_and_ends(slot: Slot, task: Callable[..., TrainingTask]) -> None:
    slot.start()
    assert hear(slot) == Ready()
    slot.send(Run(running := task()))
    assert isinstance(hear(slot), EpochReported)
    slot.send(Verdict(prune=False))
    slot.hang_up()
    assert wait_for_death(slot) == 0
    assert json.loads((running.workdir / "last.pt").read_text())


def test_the_environment_limits_threads_and_shows_one_gpu() -> None:
    got = environment(SlotPlan(0, "cuda", 3, visible_gpu="GPU-1"))
    assert {got[name] for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")} == {"3"}
    assert got["CUDA_VISIBLE_DEVICES"] == "GPU-1"


def test_how_long_threads_wait_awake_is_limited_unless_the_user_says_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert environment(SlotPlan(0, "cpu", 2))["GOMP_SPINCOUNT"] == "10000"
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    assert environment(SlotPlan(0, "cpu", 2))["GOMP_SPINCOUNT"] == "7"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    assert "GOMP_SPINCOUNT" not in environment(SlotPlan(0, "cpu", 2))


def test_a_machine_that_starts_no_further_process_says_so(slot: Slot) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        with pytest.raises(DeviceError, match="this machine starts no further process: Too many open files"):
            slot.start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_slot_that_is_put_aside_is_closed(slot: Slot) -> None:
    assert not slot.closed
    slot.put_aside = True
    assert slot.closed
    assert not slot.open(time.monotonic())
