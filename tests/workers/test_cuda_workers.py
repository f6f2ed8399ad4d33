"""Workers on a real GPU; skipped where torch sees none."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from tests.workers.hosts import check_whole, make_study
from tuner.config.study import DataSpec
from tuner.data.scenes import generate
from tuner.studies.state.records import Assignment, TrialState
from tuner.studies.study import Study
from tuner.trainers.contract import EpochResult
from tuner.workers.devices import find_gpus, plan_slots
from tuner.workers.messages import Ended
from tuner.workers.observer import Observer
from tuner.workers.slot import environment
from tuner.workers.worker import run_worker

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device here")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSpec:
    return generate(tmp_path_factory.mktemp("scenes"), train=64, val=16, test=4, size=(160, 120))


def gpu_study(
    data: DataSpec, folder: Path, *, epochs: int = 3, batch: int = 8, size: int = 160, **changes: Any
) -> Study:
    defaults = {"epochs": epochs, "image_size": size, "batch_size": batch}
    return make_study(data, f"sqlite:///{folder}/tuner.db", defaults=defaults, device="cuda", **changes)


class Listener(Observer):
    def __init__(self) -> None:
        self.notices: list[str] = []
        self.running: set[int] = set()
        self.most = 0

    def notice(self, text: str) -> None:
        self.notices.append(text)

    def trial_started(self, assignment: Assignment, slot: object) -> None:
        self.running.add(assignment.number)
        self.most = max(self.most, len(self.running))

    def trial_ended(self, assignment: Assignment, ended: Ended) -> None:
        self.running.discard(assignment.number)


def test_a_slot_sees_the_one_gpu_that_its_uuid_names() -> None:
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout
    for gpu in find_gpus():
        assert gpu.visible in re.findall(r"UUID: ([\w-]+)", listed)
    plan = plan_slots("cuda:0")[0]
    code = "import torch; print(torch.cuda.device_count(), torch.cuda.get_device_properties(0).uuid)"
    asked = [sys.executable, "-c", code]
    seen = subprocess.run(asked, capture_output=True, text=True, check=True, env=environment(plan)).stdout.split()
    assert seen == ["1", str(plan.visible_gpu).removeprefix("GPU-")]


def test_two_trials_share_a_gpu_and_are_recorded_with_it(data: DataSpec, folder: Path) -> None:
    study, listener = gpu_study(data, folder, budget={"trials": 4}), Listener()
    report = run_worker(study, slots=plan_slots("cuda:0", per_gpu=2), observers=[listener])
    assert (report.complete, listener.most) == (4, 2)
    gpu = find_gpus()[0]
    for trial in study.trials():
        (attempt,) = trial.attempts
        assert attempt.device == f"{gpu.name} ({gpu.visible})"
        assert attempt.seconds > 0
        assert attempt.peak_memory > 2**20
    check_whole(study, 4)
    study.close()


def test_gpu_hours_end_a_study(data: DataSpec, folder: Path) -> None:
    study = gpu_study(data, folder, epochs=2, budget={"gpu_hours": 1 / 3600})
    report = run_worker(study, slots=plan_slots("cuda:0"))
    spent = sum(attempt.seconds for trial in study.trials() for attempt in trial.attempts)
    assert spent >= 1
    assert report.complete < 40
    assert "GPU-hours" in (study.summary().spent or "")
    study.close()


def test_a_process_that_is_killed_costs_its_trial_one_epoch_at_most(data: DataSpec, folder: Path) -> None:
    class Killer(Listener):
        def epoch_reported(self, assignment: Assignment, result: EpochResult) -> None:
            if (assignment.number, result.epoch) == (0, 2) and not self.notices:
                for child in psutil.Process().children():
                    os.kill(child.pid, signal.SIGKILL)

    study, killer = gpu_study(data, folder, epochs=4, budget={"trials": 2}), Killer()
    report = run_worker(study, slots=plan_slots("cuda:0"), observers=[killer])
    assert report.complete == 2
    check_whole(study, 2)
    first = study.trials()[0]
    assert [attempt.outcome for attempt in first.attempts] == ["killed", "complete"]
    assert [epoch.attempt for epoch in first.epochs] in ([1, 1, 2, 2], [1, 2, 2, 2])
    study.close()


def test_a_failed_assertion_on_the_gpu_fails_its_trial_and_replaces_its_process(data: DataSpec, folder: Path) -> None:
    (folder / "plan.json").write_text(json.dumps({"1": {"action": "assert", "epoch": 1}}))
    study, listener = gpu_study(data, folder, epochs=2), Listener()
    run_worker(study, slots=plan_slots("cuda:0"), trainer="cuda_trainer:train", observers=[listener])
    trials = study.trials()
    assert [trial.state for trial in trials] == [TrialState.COMPLETE, TrialState.FAILED, TrialState.COMPLETE]
    assert "device-side assert" in trials[1].reason
    assert len(trials[1].attempts) == 1
    assert any("its CUDA context is broken" in text for text in listener.notices)
    study.close()


def test_a_micro_batch_that_fitted_is_where_the_next_trial_begins(data: DataSpec, folder: Path) -> None:
    (folder / "plan.json").write_text(json.dumps({"0": {"action": "memory"}}))
    study = gpu_study(data, folder, epochs=2, batch=64, size=320, budget={"trials": 2})
    run_worker(study, slots=plan_slots("cuda:0"), trainer="cuda_trainer:train")
    first, second = study.trials()
    sizes = [int(trial.epochs[0].executed["micro_batch"]) for trial in (first, second)]
    assert [trial.state for trial in (first, second)] == [TrialState.COMPLETE] * 2
    assert sizes[0] == sizes[1] < 64
    study.close()


def test_trials_are_packed_as_far_as_that_pays(data: DataSpec, folder: Path) -> None:
    study, listener = gpu_study(data, folder, epochs=6, budget={"trials": 8}), Listener()
    report = run_worker(study, slots=plan_slots("cuda:0", per_gpu="auto"), observers=[listener])
    assert report.complete == 8
    assert listener.most >= 2  # a small network leaves most of any GPU idle
    check_whole(study, 8)
    study.close()
