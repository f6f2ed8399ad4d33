"""Trials that hang, fail or end their process: what a worker makes of them, and of the rest of the study."""

from collections.abc import Callable

import pytest
from recording import SLOT, TRAINER, Recorder

from tuner.studies.state.records import TrialState
from tuner.studies.study import Study
from tuner.workers.worker import Timing, run_worker


def test_a_trial_that_hangs_is_ended_and_tried_again(make_study: Callable[..., Study]) -> None:
    study = make_study(1, 3, action="hang", epoch=3, times=1)
    report = run_worker(study, slots=SLOT, trainer=TRAINER, timing=Timing(hang_floor=2.0))
    assert report.complete == 1
    (trial,) = study.trials()
    assert [epoch.epoch for epoch in trial.epochs] == [1, 2, 3]
    assert [attempt.outcome for attempt in trial.attempts] == ["killed", "complete"]
    assert "no epoch and no sign of life within" in (trial.attempts[0].message or "")


def test_the_first_epoch_is_watched_by_what_other_trials_took(make_study: Callable[..., Study]) -> None:
    study = make_study(2, 2, action="hang", epoch=1, times=1, only=1)
    report = run_worker(study, slots=SLOT, trainer=TRAINER, timing=Timing(hang_floor=2.0))
    assert report.complete == 2
    assert [attempt.outcome for attempt in study.trials()[1].attempts] == ["killed", "complete"]


def test_a_first_epoch_without_any_to_compare_has_a_limit_too(make_study: Callable[..., Study]) -> None:
    study = make_study(1, 2, action="hang", epoch=1, times=1)
    report = run_worker(study, slots=SLOT, trainer=TRAINER, timing=Timing(first_epoch=8.0))
    assert report.complete == 1
    assert "no epoch and no sign of life within 8 s" in (study.trials()[0].attempts[0].message or "")


def test_a_trial_that_gives_signs_of_life_takes_as_long_as_it_takes(make_study: Callable[..., Study]) -> None:
    study = make_study(1, 2, action="work", epoch=1, long=12.0)
    report = run_worker(study, slots=SLOT, trainer=TRAINER, timing=Timing(first_epoch=8.0))
    assert report.complete == 1
    assert [attempt.outcome for attempt in study.trials()[0].attempts] == ["complete"]


def test_a_trial_that_gives_no_more_signs_of_life_is_ended(make_study: Callable[..., Study]) -> None:
    study = make_study(1, 2, action="work", epoch=1, long=12.0, quiet=1000, times=1)
    report = run_worker(study, slots=SLOT, trainer=TRAINER, timing=Timing(first_epoch=8.0))
    assert report.complete == 1
    (trial,) = study.trials()
    assert [attempt.outcome for attempt in trial.attempts] == ["killed", "complete"]
    assert "no sign of life within 8 s" in (trial.attempts[0].message or "")
    assert (study.folder / "trials" / "0" / "worked long.txt").exists()


def test_a_device_that_fails_again_and_again_is_put_aside(make_study: Callable[..., Study]) -> None:
    study = make_study(3, 2, action="BrokenDevice", epoch=2)
    recorder = Recorder()
    report = run_worker(study, slots=SLOT, trainer=TRAINER, observers=[recorder])
    assert report.reason == "failed"
    assert "no device of this host works: BrokenDevice" in report.message
    assert any("is put aside" in event for event in recorder.events)
    (trial,) = study.trials()
    assert trial.state is TrialState.INTERRUPTED  # left to hosts that work
    assert [attempt.outcome for attempt in trial.attempts] == ["device", "device"]


def states(study: Study) -> list[TrialState]:
    return [trial.state for trial in study.trials()]


def test_a_trial_that_always_kills_its_process_fails_and_the_study_goes_on(
    make_study: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuner.workers.slot.RESTART_DELAY", 0.1)
    study = make_study(3, 3, action="exit", epoch=2, only=1)
    report = run_worker(study, slots=SLOT, trainer=TRAINER)
    assert states(study) == [TrialState.COMPLETE, TrialState.FAILED, TrialState.COMPLETE]
    assert (report.complete, report.failed) == (2, 1)
    failed = study.trials()[1]
    assert "exit code 7" in (failed.reason or "")
    assert len(failed.attempts) == 4
    assert [epoch.epoch for epoch in failed.epochs] == [1]


def test_the_same_config_error_twice_ends_the_study(make_study: Callable[..., Study]) -> None:
    study = make_study(9, 3, action="BadConfig")
    report = run_worker(study, slots=SLOT, trainer=TRAINER)
    assert report.reason == "failed"
    assert "two trials failed with the same error: BadConfig" in report.message
    assert states(study) == [TrialState.FAILED] * 2


def test_failures_in_a_row_end_the_worker(make_study: Callable[..., Study]) -> None:
    study = make_study(9, 3, action="bug", epoch=2)
    report = run_worker(study, slots=SLOT, trainer=TRAINER)
    assert report.reason == "failed"
    assert "3 trials failed one after the other, the last with error: ZeroDivisionError" in report.message
    assert states(study) == [TrialState.FAILED] * 3


def test_bad_data_end_the_worker_at_once_and_cost_the_study_no_trial(make_study: Callable[..., Study]) -> None:
    study = make_study(2, 3, action="BadData", epoch=2)
    report = run_worker(study, slots=SLOT, trainer=TRAINER)
    assert (report.reason, report.message, report.epochs) == ("failed", "BadData", 1)
    assert states(study) == [TrialState.INTERRUPTED]
    make_study(2, 3)
    assert run_worker(study, slots=SLOT, trainer=TRAINER).complete == 2
    assert [attempt.outcome for attempt in study.trials()[0].attempts] == ["bad_data", "complete"]


def test_divergence_and_lack_of_memory_are_results(make_study: Callable[..., Study]) -> None:
    for action in ("Diverged", "OutOfMemory"):
        study = make_study(4 if action == "Diverged" else 8, 2, action=action, epoch=2)
        report = run_worker(study, slots=SLOT, trainer=TRAINER)
        assert (report.reason, report.pruned, report.failed) == ("finished", 4, 0)
        assert set(states(study)) == {TrialState.PRUNED}


def test_a_trainer_that_cannot_be_imported_ends_the_worker_with_the_reason(
    make_study: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuner.workers.slot.RESTART_DELAY", 0.1)
    study = make_study()
    report = run_worker(study, slots=SLOT, trainer="no_such_module:train")
    assert report.reason == "failed"
    assert "no trial process could be started" in report.message
    assert "no_such_module" in report.message
    assert states(study) == [TrialState.INTERRUPTED]  # not the trial's fault: another worker may go on with it
