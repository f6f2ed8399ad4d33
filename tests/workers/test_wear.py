"""Trial processes that are replaced by fresh ones: their memory grew, or their CUDA context broke."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hosts import make_study

from tuner.config.errors import FailureKind
from tuner.config.study import DataSpec
from tuner.data.scenes import generate
from tuner.studies.state.records import TrialState
from tuner.trainers.detection.cuda_errors import is_cuda_error, is_out_of_memory
from tuner.workers.devices import SlotPlan
from tuner.workers.failures import ended_by
from tuner.workers.observer import Observer
from tuner.workers.wear import SLACK, grown
from tuner.workers.worker import run_worker

SLOT = [SlotPlan(0, "cpu", 1)]
MB = 2**20


@pytest.mark.parametrize(
    ("needed", "held", "worn"),
    [
        (100 * MB, 100 * MB, False),
        (100 * MB, 100 * MB + SLACK, False),
        (100 * MB, 101 * MB + SLACK, True),
        (4 * SLACK, 8 * SLACK, False),
        (4 * SLACK, 8 * SLACK + 1, True),
    ],
)
def test_memory_may_double_and_grow_by_some(needed: int, held: int, worn: bool) -> None:
    assert bool(grown(needed, held)) is worn


@pytest.mark.parametrize(
    ("error", "cuda", "memory"),
    [
        (RuntimeError("CUDA error: an illegal memory access was encountered"), True, False),
        (RuntimeError("CUDA driver error: device not ready"), True, False),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), True, False),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), False, True),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later"), False, True),
        (RuntimeError("CUDA driver error: out of memory"), False, True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), False, True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"), False, True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED"), False, True),
        (RuntimeError("shapes do not match"), False, False),
        (ValueError("CUDA error"), False, False),
        (MemoryError(), False, True),
    ],
)
def test_errors_that_break_a_cuda_context(error: Exception, cuda: bool, memory: bool) -> None:
    assert (is_cuda_error(error), is_out_of_memory(error)) == (cuda, memory)


def test_memory_that_a_cpu_does_not_have_is_memory() -> None:
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(error.value)


def test_a_folder_that_was_removed_is_not_the_trials_fault(tmp_path: Path) -> None:
    """Trainers of users write there by themselves."""
    for folder, kind in ((tmp_path, FailureKind.ERROR), (tmp_path / "0", FailureKind.DISK)):
        with pytest.raises(FileNotFoundError) as error:
            (folder / "missing" / "state.pt").open("w")
        ended = ended_by(error.value, folder)
        assert ended.kind is kind
        assert "state.pt" in ended.message


def test_an_error_is_summed_up_by_itself_not_by_its_notes(tmp_path: Path) -> None:
    error = ValueError("boxes have the wrong shape")
    error.add_note("while loading image 7")
    assert ended_by(error, tmp_path).message.startswith("ValueError: boxes have the wrong shape (traceback in ")


class Notices(Observer):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def notice(self, text: str) -> None:
        self.texts.append(text)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., object]]:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    data: DataSpec = generate(tmp_path / "data", train=4, val=2, test=1, size=(64, 48))
    study = make_study(data, f"sqlite:///{tmp_path}/tuner.db", defaults={"epochs": 2, "image_size": 64})

    def run(**plans: dict[str, object]) -> tuple[list[object], list[str], list[str]]:
        """Trials, notices and the trial process of each trial's first attempt."""
        (tmp_path / "plan.json").write_text(json.dumps({name.removeprefix("trial"): p for name, p in plans.items()}))
        notices = Notices()
        run_worker(study, slots=SLOT, trainer="fake_trainer:train", observers=[notices])
        trials = study.trials()
        starts = [(study.folder / "trials" / str(t.number) / "starts.txt").read_text().split()[0] for t in trials]
        return list(trials), notices.texts, starts

    yield run
    study.close()


def test_a_process_whose_memory_grows_is_replaced_between_trials(run: Callable[..., object]) -> None:
    trials, notices, pids = run(trial1={"action": "leak"})  # type: ignore[misc]
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 3
    assert [len(trial.attempts) for trial in trials] == [1, 1, 1]
    assert pids[0] == pids[1] != pids[2]
    assert len(notices) == 1
    assert "the trial process is replaced: it holds" in notices[0]


def test_a_broken_context_costs_one_attempt_and_its_process(run: Callable[..., object]) -> None:
    trials, notices, _ = run(trial1={"action": "cuda", "epoch": 2, "times": 1})  # type: ignore[misc]
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 3
    assert [attempt.outcome for attempt in trials[1].attempts] == [FailureKind.DEVICE, "complete"]
    assert any("its CUDA context is broken" in text for text in notices)


def test_an_assertion_on_the_device_is_the_trials_fault(run: Callable[..., object]) -> None:
    trials, notices, pids = run(trial1={"action": "assert", "epoch": 2})  # type: ignore[misc]
    assert [trial.state for trial in trials] == [TrialState.COMPLETE, TrialState.FAILED, TrialState.COMPLETE]
    assert "device-side assert" in trials[1].reason
    assert pids[0] == pids[1] != pids[2]
    assert any("its CUDA context is broken" in text for text in notices)
