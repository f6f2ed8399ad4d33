"""Whole studies whose pruner promotes, through the command line, with real worker processes and a fake trainer."""

import signal

import optuna
import pytest

from tests.cli.project import LIMIT, Project, check_curves, until
from tuner.studies.opening import open_study
from tuner.trainers.contract import CHECKPOINT

EPOCHS = 9


def test_a_study_that_promotes_survives_interruption_and_a_second_worker(
    project: Project,
    capsys: pytest.CaptureFixture[str],
) -> None:
    project.write(
        pruner={"name": "promote", "first_rung": 1},
        defaults={"epochs": EPOCHS, "image_size": 64},
        budget={"trials": 10},
        slots=2,
    )
    process = project.start_run("--slots", "1")  # with two, trial 0 may meet enough others at the rung to go on at once
    until(process, "trial 0 goes on at epoch 2")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 130, out + err
    status = project.main(capsys, "status", "cells")
    assert " paused" in status
    assert "no trial is complete yet" in status
    project.misbehave(trial0={"action": "sigkill", "epoch": 5, "times": 1})
    workers = [project.start_run(), project.start_run()]
    for worker in workers:
        out, err = worker.communicate(timeout=LIMIT)
        assert worker.returncode == 0, out + err
        assert "budget is spent" in out

    trials = project.trials()
    check_curves(trials, EPOCHS)
    assert len(trials) == 10
    complete = [trial["number"] for trial in trials if trial["state"] == "complete"]
    assert len(complete) >= 2
    assert 0 in complete
    study = open_study("cells", project.storage)
    shown = study.optuna.trials
    assert [t.number for t in shown if t.state == optuna.trial.TrialState.COMPLETE] == complete
    assert all(t.state.is_finished() for t in shown)
    assert [len(t.intermediate_values) for t in shown] == [len(t["epochs"]) for t in trials]
    summary, best = study.summary(), study.best()
    study.close()
    # Each epoch counts once, whoever trained it and however often the trial was paused.
    assert summary.epochs == sum(len(trial["epochs"]) for trial in trials) < 10 * EPOCHS
    # What was pruned can never go on, so it keeps no checkpoint; of the complete ones the best does.
    kept = {int(file.parent.name) for file in project.folder.rglob(CHECKPOINT)}
    assert best is not None
    assert kept == {best.number}
