"""What trials leave to later ones: micro-batches, times, checkpoints and costs, over every database."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from study_cases import EPOCHS, WORKER, forget_worker, result, train

from tuner.studies.opening import open_study
from tuner.studies.state.budgets import spent
from tuner.studies.state.machines import recorded_gpu
from tuner.studies.state.provenance import WorkerInfo
from tuner.studies.state.records import Assignment, TrialState
from tuner.studies.study import Study
from tuner.trainers.contract import CHECKPOINT

Begin = Callable[..., Study]
SMALL = WorkerInfo(device=recorded_gpu("Small 8 GB", "GPU-1"), versions={}, commit=None)
LARGE = WorkerInfo(device=recorded_gpu("Small 8 GB Ti", "GPU-2"), versions={}, commit=None)


def take(study: Study, worker: WorkerInfo = WORKER) -> Assignment:
    assignment = study.next_trial(worker)
    assert assignment is not None
    return assignment


def test_the_micro_batch_is_remembered_by_gpu_model_detector_and_size(studies_url: str, begin: Begin) -> None:
    study = begin(studies_url, pruner={"name": "none"})
    first = take(study, SMALL)
    assert study.micro_batch("Small 8 GB", first.config) is None
    for epoch, executed in ((1, {"precision": "fp32"}), (2, {"micro_batch": "4"}), (3, {"micro_batch": "2"})):
        study.report(first, replace(result(epoch, 0.1), executed=executed))
    whole = take(study, LARGE)
    study.report(whole, replace(result(1, 0.1), executed={"precision": "bf16"}))
    other = open_study(study.name, studies_url)
    assert other.micro_batch("Small 8 GB", first.config) == 2
    assert other.micro_batch("Small 8 GB Ti", first.config) is None
    assert other.micro_batch("Small", first.config) is None
    assert other.micro_batch("Small 8 GB", first.config.model_copy(update={"image_size": 128})) is None
    assert other.micro_batch("Small 8 GB", first.config.model_copy(update={"model": "dense-small"})) is None
    assert other.micro_batch("Small 8 GB", first.config.model_copy(update={"batch_size": 64})) == 2
    other.close()


def test_the_longest_epoch_of_a_host(studies_url: str, begin: Begin) -> None:
    study = begin(studies_url)
    here, there = take(study), take(study, replace(WORKER, host="elsewhere"))
    assert study.longest_epoch(WORKER.host) == 0.0
    study.report(here, result(1, 0.1))
    study.report(there, replace(result(1, 0.1), train_seconds=100.0))
    assert study.longest_epoch(WORKER.host) == pytest.approx(2.0)
    assert study.longest_epoch("elsewhere") == pytest.approx(100.5)


@pytest.mark.parametrize(("keep", "left"), [("best", [1, 3]), ("all", [0, 1, 2, 3, 4]), ("none", [3])])
def test_checkpoints_of_ended_trials_stay_as_the_study_says(
    begin: Begin, sqlite_url: str, keep: str, left: list[int]
) -> None:
    study = begin(sqlite_url, keep=keep, pruner={"name": "none"})
    trials = [take(study) for _ in range(5)]
    for trial in trials:
        file = study.folder / "trials" / str(trial.number) / CHECKPOINT
        file.parent.mkdir(parents=True)
        file.touch()
    for number, top in ((0, 0.4), (1, 0.6)):
        train(study, trials[number], top)
    study.report(trials[2], result(1, 0.9))
    study.prune(trials[2], "weak")
    study.interrupt(trials[3])
    study.report(trials[4], result(1, 0.9))
    study.prune(trials[4], "weak")
    study.remove_checkpoints()
    study.remove_checkpoints()
    assert sorted(int(path.parent.name) for path in study.folder.glob(f"trials/*/{CHECKPOINT}")) == left


def gpu_hours_spent(study: Study) -> str | None:
    return study.database.run(lambda session: spent(session, study._id, study.spec))


def test_a_budget_of_gpu_hours_counts_all_attempts_on_gpus(studies_url: str, begin: Begin) -> None:
    # An epoch of `result` takes 2 s.
    study = begin(studies_url, pruner={"name": "none"}, budget={"trials": None, "gpu_hours": 20 / 3600})
    on_cpu = take(study)
    train(study, on_cpu, 0.5)
    assert gpu_hours_spent(study) is None
    first = take(study, SMALL)
    train(study, first, 0.5, epochs=4)
    forget_worker(study, first)
    again = take(study, LARGE)
    assert (again.number, again.attempt_id) == (first.number, 2)
    study.report(again, result(4, 0.5))  # its checkpoint is from there: judged, and so paid for, once more
    assert gpu_hours_spent(study) is None
    train(study, again, 0.5)
    assert gpu_hours_spent(study) == "0.00556 of 0.00556 GPU-hours"
    assert study.next_trial(SMALL) is None
    assert study.summary().spent == "0.00556 of 0.00556 GPU-hours"


def test_trials_that_share_a_gpu_cost_its_hours_once(studies_url: str, begin: Begin) -> None:
    study = begin(studies_url, pruner={"name": "none"}, budget={"trials": None, "gpu_hours": 19 / 3600})
    for trial in [take(study, SMALL), take(study, SMALL)]:  # begun at the same time, 18 s each
        train(study, trial, 0.5)
    assert gpu_hours_spent(study) is None
    train(study, take(study, LARGE), 0.5)
    assert gpu_hours_spent(study) is not None


def test_a_resumed_trial_pays_for_each_epoch_once_in_the_budget_of_epochs(sqlite_url: str, begin: Begin) -> None:
    study = begin(sqlite_url, pruner={"name": "none"}, budget={"trials": None, "epochs": EPOCHS + 1})
    first = take(study)
    train(study, first, 0.5, epochs=4)
    forget_worker(study, first)
    again = take(study)
    for _ in range(3):  # what its checkpoint ends with comes again; the call may be repeated
        study.report(again, result(4, 0.5))
    cost = study.trials(epochs=False)[0].cost
    assert cost.seconds == pytest.approx(5 * 2.0)
    assert cost.cpu_seconds == pytest.approx(5 * 3.0)
    train(study, again, 0.5)
    assert study.trials(epochs=False)[0].state is TrialState.COMPLETE
    assert study.summary().epochs == EPOCHS
    assert study.summary().spent is None
    second = take(study)
    study.report(second, result(1, 0.1))
    assert study.summary().spent == f"{EPOCHS + 1} of {EPOCHS + 1} epochs"
    assert study.next_trial(WORKER) is None


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
