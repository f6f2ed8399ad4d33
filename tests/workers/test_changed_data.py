"""Annotations that change while a study runs."""

from __future__ import annotations

from pathlib import Path

import psutil
from hosts import make_study

from tuner.data.scenes import generate
from tuner.studies.state.records import Assignment, TrialState
from tuner.trainers.contract import EpochResult
from tuner.workers.devices import SlotPlan
from tuner.workers.observer import Observer
from tuner.workers.worker import run_worker

SLOT = [SlotPlan(0, "cpu", 1)]


class Editor(Observer):
    """After the first epoch, changes the annotations and kills the trial process."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.before = file.read_text()

    def epoch_reported(self, assignment: Assignment, result: EpochResult) -> None:
        if self.file.read_text() == self.before:
            self.file.write_text(self.before.replace('"area": ', '"area": 1'))
            for process in psutil.Process().children():
                if "tuner.workers.trial_process" in process.cmdline():
                    process.kill()


def test_annotations_that_change_end_the_run_and_no_trial_is_trained_on_both(tmp_path: Path, folder: Path) -> None:
    data = generate(tmp_path / "data", train=4, val=2, test=1, size=(64, 48))
    study = make_study(data, f"sqlite:///{folder}/tuner.db", budget={"trials": 1})
    editor = Editor(data.path(data.train))
    report = run_worker(study, slots=SLOT, observers=[editor])
    assert report.reason == "failed"
    assert "are not those that the study was begun with:\n  train: as many boxes of each class, but" in report.message
    trial = study.trials()[0]
    assert (trial.state, trial.last_epoch) == (TrialState.INTERRUPTED, 1)
    assert [attempt.outcome for attempt in trial.attempts] == ["killed", "bad_data"]
    editor.file.write_text(editor.before)
    assert run_worker(study, slots=SLOT).complete == 1
    study.close()
