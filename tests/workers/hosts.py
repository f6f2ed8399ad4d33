"""Workers in processes of their own, as other hosts would run them, with leases that end within seconds."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from tuner.config.study import DataSpec, StudySpec
from tuner.studies.opening import create_or_open
from tuner.studies.state.records import TrialState
from tuner.studies.study import Study

LEASE = 2.0
LIMIT = 500.0
"""Seconds after which a worker counts as hanging: a busy machine takes long for each start."""
FAKE = "fake_trainer:train"
_HERE = Path(__file__).parent
_CODE = """
import sys, time
name, url, trainer, slots, lease, hang, shift, patience = sys.argv[1:]
clock = time.time
time.time = lambda: clock() + float(shift)
from tuner.studies.trials import leases
leases.LEASE_SECONDS = leases.ASK_SECONDS = float(lease)
from tuner.studies.opening import open_study
from tuner.workers.devices import SlotPlan
from tuner.workers.worker import Timing, run_worker
timing = Timing(
    heartbeat=float(lease) / 6, poll=0.2, patience=float(patience), settle=0.5, stop_grace=20.0, hang_floor=float(hang)
)
plans = [SlotPlan(index, "cpu", 1) for index in range(int(slots))]
report = run_worker(open_study(name, url), slots=plans, trainer=trainer, timing=timing)
print(report.reason, report.message)
"""


def make_study(data: DataSpec, url: str, name: str = "cells", **changes: Any) -> Study:
    """A study whose trials do not depend on each other: random search without pruning."""
    fields: dict[str, Any] = {
        "name": name,
        "data": data,
        "storage": url,
        "defaults": {"epochs": 4, "image_size": 64},
        "space": {"learning_rate": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True}},
        "sampler": {"name": "random"},
        "pruner": {"name": "none"},
        "budget": {"trials": 3},
    }
    return create_or_open(StudySpec.model_validate(fields | changes))


def start_host(
    study: Study,
    *,
    slots: int = 1,
    trainer: str = FAKE,
    shift: float = 0.0,
    lease: float = LEASE,
    hang: float = 600.0,
    patience: float = 2.0,
) -> subprocess.Popen[str]:
    """A worker; `shift` is by how many seconds the clock of its host is wrong."""
    numbers = [str(number) for number in (slots, lease, hang, shift, patience)]
    arguments = [study.name, study.spec.storage or "", trainer, *numbers]
    path = os.pathsep.join([str(_HERE.parents[1]), str(_HERE)])
    return subprocess.Popen(
        [sys.executable, "-c", _CODE, *arguments], text=True, env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip


def trial_processes(host: subprocess.Popen[str]) -> list[psutil.Process]:
    """The trial processes of a worker."""
    try:
        return psutil.Process(host.pid).children()
    except psutil.NoSuchProcess:
        return []


def until(condition: Callable[[], bool], *, of: subprocess.Popen[Any] | None = None, seconds: float = LIMIT) -> None:
    """Wait for a condition, as long as a process lives."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        assert of is None or of.poll() is None, of.communicate()[0]
        time.sleep(0.05)


def epochs_of(study: Study, number: int) -> int:
    """Epochs that are reported of a trial; 0 before it was begun."""
    return next((trial.last_epoch for trial in study.trials(numbers=[number], epochs=False)), 0)


def outcome(study: Study) -> list[Any]:
    """What must not depend on interruptions."""
    return [
        (
            (trial.number, trial.state, trial.params, trial.value, trial.is_default),
            [(epoch.epoch, epoch.metrics, epoch.losses, epoch.learning_rate) for epoch in trial.epochs],
        )
        for trial in study.trials()
    ]


def check_whole(study: Study, trials: int) -> None:
    """Every trial has one final state, here and in Optuna, and one curve; none was lost, none run twice at once."""
    found = study.trials()
    assert [trial.number for trial in found] == list(range(trials))
    assert len(study.optuna.trials) == trials
    for trial, told in zip(found, study.optuna.trials, strict=True):
        assert trial.state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED)
        assert told.state.name == {"failed": "FAIL"}.get(trial.state, trial.state.name)
        assert [epoch.epoch for epoch in trial.epochs] == list(range(1, trial.last_epoch + 1))
        assert [attempt.number for attempt in trial.attempts] == list(range(1, len(trial.attempts) + 1))
        assert all(attempt.outcome for attempt in trial.attempts)
        for earlier, later in zip(trial.attempts, trial.attempts[1:], strict=False):
            assert earlier.ended_at is not None
            assert earlier.ended_at <= later.started_at
        worked = study.folder / "trials" / str(trial.number) / "worked.txt"
        if worked.exists():
            runs = [line.split()[0] for line in worked.read_text().splitlines()]
            # Once another run of the trial has begun an epoch, an earlier one never begins one again.
            assert sorted(set(runs), key=runs.index) == [
                r for r, before in zip(runs, [None, *runs], strict=False) if r != before
            ]
