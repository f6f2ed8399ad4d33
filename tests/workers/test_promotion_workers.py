"""Trials that pause at rungs, with real workers and trial processes and a fake trainer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from hosts import until
from sqlalchemy import update
from sqlalchemy.orm import Session

from tuner.config.study import BudgetSpec, PrunerSpec, StudySpec
from tuner.data.scenes import generate
from tuner.storage.tables import StudyRow, TrialRow
from tuner.studies.opening import create_or_open, open_study
from tuner.studies.replay.simulate import Curve, simulate
from tuner.studies.state.records import RELEASED, Assignment, TrialState
from tuner.studies.study import Study
from tuner.trainers.contract import CHECKPOINT
from tuner.workers.devices import SlotPlan
from tuner.workers.messages import Ended
from tuner.workers.observer import Observer
from tuner.workers.worker import Timing, run_worker

TRAINER = "fake_trainer:train"
SLOT = [SlotPlan(0, "cpu", 1)]
TRIALS, EPOCHS = 9, 9
PRUNER = PrunerSpec(name="promote", first_rung=1)


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    data = generate(tmp_path / "scenes", train=4, val=2, test=1, size=(64, 48))
    study = create_or_open(
        StudySpec(
            name="cells", data=data, defaults={"epochs": EPOCHS, "image_size": 64}, pruner=PRUNER,
            space={"learning_rate": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True}},
            budget=BudgetSpec(trials=TRIALS), storage=f"sqlite:///{tmp_path}/tuner.db",
        )
    )  # fmt: skip
    yield study
    study.close()


def check(study: Study) -> None:
    """What holds of every study that has ended, whatever happened on the way."""
    trials = study.trials()
    assert len(trials) == len(study.optuna.trials) == TRIALS
    complete = {trial.number for trial in trials if trial.state is TrialState.COMPLETE}
    assert 0 in complete
    best = study.best()
    assert best is not None
    for trial, told in zip(trials, study.optuna.trials, strict=True):
        assert trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
        assert told.state.name == trial.state.name
        assert [epoch.epoch for epoch in trial.epochs] == list(range(1, trial.last_epoch + 1))
        assert trial.last_epoch in ((EPOCHS,) if trial.number in complete else (1, 3))
        checkpoint = study.folder / "trials" / str(trial.number) / CHECKPOINT
        assert checkpoint.exists() == (trial.number == best.number)


class Loser(Observer):
    """Loses the checkpoints of trials that pause at the second rung."""

    def __init__(self, study: Study) -> None:
        self.lost: list[int] = []
        self.notices: list[str] = []
        self._trials = study.folder / "trials"

    def trial_ended(self, assignment: Assignment, ended: Ended) -> None:
        if ended.outcome == "paused" and assignment.first_epoch > 1:
            (self._trials / str(assignment.number) / CHECKPOINT).unlink()
            self.lost.append(assignment.number)

    def notice(self, text: str) -> None:
        self.notices.append(text)


def test_a_trial_whose_checkpoint_is_gone_begins_again_and_says_so(study: Study) -> None:
    loser = Loser(study)
    run_worker(study, slots=SLOT, trainer=TRAINER, observers=[loser])
    check(study)
    again = {trial.number for trial in study.trials() if trial.state is TrialState.COMPLETE}.intersection(loser.lost)
    assert again
    assert sorted(loser.notices) == [
        f"trial {number} went on at epoch 1 instead of 4: there is no later checkpoint of it here"
        for number in sorted(again)
    ]


def test_trials_pause_and_go_on_where_they_paused(study: Study, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(json.dumps({"1": {"action": "sigkill", "epoch": 2, "times": 1}}))
    report = run_worker(study, slots=SLOT, trainer=TRAINER)
    check(study)
    trials = study.trials()
    assert report.reason == "finished"
    assert report.complete == sum(trial.state is TrialState.COMPLETE for trial in trials)
    resumed = [trial for trial in trials if "paused" in [attempt.outcome for attempt in trial.attempts[:-1]]]
    assert resumed
    for trial in resumed:
        starts = (study.folder / "trials" / str(trial.number) / "starts.txt").read_text().splitlines()
        begun, resumed_at = (int(line.split()[1]) for line in starts[:2])  # epochs in its checkpoint
        assert begun == 0
        assert resumed_at in (1, 3)  # a rung

    # The replay of the same curves decides the same.
    curves = iter([Curve([epoch.value for epoch in trial.epochs]) for trial in trials])
    done = simulate(
        lambda _: next(curves, None), lambda ask: optuna.samplers.RandomSampler(seed=ask), PRUNER, epochs=EPOCHS
    )
    assert [trial.epochs for trial in done.trials] == [trial.last_epoch for trial in trials]


def test_another_worker_goes_on_with_what_a_killed_one_left(study: Study, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(json.dumps({"*": {"seconds": 0.1}}))
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from tuner.studies.opening import open_study
from tuner.workers.devices import SlotPlan
from tuner.workers.worker import run_worker
run_worker(open_study("cells", {study.spec.storage!r}), slots=[SlotPlan(i, "cpu", 1) for i in range(2)],
           trainer={TRAINER!r})
"""
    first = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: study.summary().counts[TrialState.PAUSED] > 0, of=first)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    give_up_leases(study)
    other = open_study("cells", study.spec.storage)
    report = run_worker(other, slots=SLOT, trainer=TRAINER, timing=Timing(settle=0.5))
    other.close()
    assert report.reason == "finished"
    check(study)
    hosts = {trial.number: [attempt.pid for attempt in trial.attempts] for trial in study.trials()}
    assert any(first.pid in pids and os.getpid() in pids for pids in hosts.values())


def give_up_leases(study: Study) -> None:
    """What a minute without the worker does."""

    def forget(session: Session) -> None:
        session.execute(update(TrialRow).where(TrialRow.lease_until > RELEASED).values(lease_until=1.0))
        session.execute(update(StudyRow).values(ask_token=None))

    study.database.run(forget)
