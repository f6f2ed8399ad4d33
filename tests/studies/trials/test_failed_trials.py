"""What becomes of trials that fail, and of their study."""

from __future__ import annotations

from collections.abc import Callable

import optuna
import pytest
from study_cases import WORKER, forget_worker, result

from tuner.config.errors import FailureKind, StudyError
from tuner.studies.state.records import TrialState
from tuner.studies.study import Study
from tuner.trainers.contract import BadConfig, TrialFailed

Begin = Callable[..., Study]
State = optuna.trial.TrialState


def test_no_trial_is_complete_without_an_epoch(studies_url: str, begin: Begin) -> None:
    study = begin(studies_url)
    first = study.next_trial(WORKER)
    assert first is not None
    with pytest.raises(TrialFailed, match="the trainer reported no epoch"):
        study.complete(first)
    assert study.trials()[0].state is TrialState.RUNNING
    assert study.fail(first, FailureKind.ERROR, "the trainer reported no epoch") is TrialState.FAILED
    assert study.optuna.trials[0].state is State.FAIL


def test_kinds_of_failure(sqlite_url: str, begin: Begin) -> None:
    study = begin(sqlite_url)
    outcomes = {
        FailureKind.OUT_OF_MEMORY: (TrialState.PRUNED, State.PRUNED),
        FailureKind.DIVERGED: (TrialState.PRUNED, State.PRUNED),
        FailureKind.ERROR: (TrialState.FAILED, State.FAIL),
    }
    for number, (kind, (state, told)) in enumerate(outcomes.items()):
        assignment = study.next_trial(WORKER)
        assert assignment is not None
        study.report(assignment, result(1, 0.2))
        assert study.fail(assignment, kind, f"because of {kind}") is state
        record = study.trials(numbers=[number])[0]
        assert (record.state, record.kind, record.reason) == (state, kind, f"because of {kind}")
        frozen = study.optuna.trials[number]
        assert frozen.state == told
        assert frozen.user_attrs["reason"] == f"because of {kind}"
        assert frozen.constraints == ({"memory": 1.0} if kind is FailureKind.OUT_OF_MEMORY else {})
        assert frozen.value == (0.2 if told == State.PRUNED else None)


def test_a_trial_that_kills_its_worker_each_time_is_given_up(studies_url: str, begin: Begin) -> None:
    study = begin(studies_url)
    for attempt in range(1, 4):
        assignment = study.next_trial(WORKER)
        assert assignment is not None
        assert (assignment.number, assignment.attempt_id) == (0, attempt)
        if attempt == 2:
            forget_worker(study, assignment)
        else:
            assert study.fail(assignment, FailureKind.KILLED, "signal 9") is TrialState.INTERRUPTED
    for kind in 3 * (FailureKind.DISK, FailureKind.BAD_DATA):  # these end the run, which somebody begins again
        assignment = study.next_trial(WORKER)
        assert assignment is not None
        assert study.fail(assignment, kind, "full") is TrialState.INTERRUPTED
    last = study.next_trial(WORKER)
    assert last is not None
    assert study.fail(last, FailureKind.KILLED, "signal 9") is TrialState.FAILED
    following = study.next_trial(WORKER)
    assert following is not None
    assert following.number == 1
    for _ in range(4):
        forget_worker(study, following)
        taken = study.next_trial(WORKER)
        assert taken is not None
        following = taken
    assert following.number == 2
    given_up = study.trials(numbers=[1])[0]
    assert (given_up.state, given_up.kind) == (TrialState.FAILED, FailureKind.LOST)
    assert given_up.reason is not None
    assert given_up.reason.startswith("4 attempts failed")


def test_the_same_config_error_twice_ends_the_study(sqlite_url: str, begin: Begin) -> None:
    study = begin(sqlite_url)
    for message in ("image size 96 is too small", "no such weights", "image size 128 is too small"):
        assignment = study.next_trial(WORKER)
        assert assignment is not None
        study.fail(assignment, FailureKind.BAD_CONFIG, message)
    with pytest.raises(StudyError, match="the same error: image size 128 is too small"):
        study.next_trial(WORKER)
    assert study.summary().problem is not None
    assert begin(sqlite_url).next_trial(WORKER) is not None  # run again, it goes on


def test_an_undefined_objective_is_a_bad_config(sqlite_url: str, begin: Begin) -> None:
    study = begin(sqlite_url, objective={"metric": "map_small"})
    assignment = study.next_trial(WORKER)
    assert assignment is not None
    with pytest.raises(BadConfig, match="map_small is undefined"):
        study.report(assignment, result(1, 0.3, map_small=None))
