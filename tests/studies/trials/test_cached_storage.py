"""What samplers see of thousands of trials, and how often the database is asked for an epoch."""

import math
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import event
from sqlalchemy.orm import Session
from study_cases import WORKER, result

from tuner.storage import optuna_rows, optuna_writing
from tuner.storage.database import Database, connect
from tuner.studies.study import Study
from tuner.studies.trials.cached_storage import SEEN_TRIALS, Drafting, StudyTrials, changeable, seen


def _trials(count: int) -> list[FrozenTrial]:
    trials = []
    for number in range(count):
        state = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)[number % 3]
        value = float(number * 7919 % count) if state != TrialState.FAIL else None
        trial = create_trial(state=state, value=value)
        trial.number = number
        trials.append(trial)
    return trials


def test_a_sampler_sees_all_of_few_trials() -> None:
    trials = _trials(SEEN_TRIALS)
    assert seen(trials, rising=True) == trials


@pytest.mark.parametrize("rising", [True, False, None])
def test_of_many_trials_a_sampler_sees_the_best_and_the_latest_and_what_runs(rising: bool | None) -> None:
    trials = _trials(3 * SEEN_TRIALS)
    trials[5] = create_trial(state=TrialState.RUNNING)
    trials[5].number = 5
    numbers = [trial.number for trial in seen(trials, rising)]
    assert len(numbers) == SEEN_TRIALS
    assert numbers == sorted(numbers)
    assert 5 in numbers
    assert set(range(len(trials) - 800, len(trials))) <= set(numbers)
    if rising is not None:
        complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        best = sorted(complete, key=lambda trial: trial.value or 0.0, reverse=rising)[:100]
        assert {trial.number for trial in best} <= set(numbers)


@pytest.fixture
def optunas(database_url: str) -> Iterator[tuple[Database, optuna.Study]]:
    """A study that Optuna alone made and filled: trials of all kinds, with all that they can hold."""
    database = connect(database_url)
    study = optuna.create_study(
        study_name="theirs", storage=database.optuna, sampler=optuna.samplers.TPESampler(seed=1, n_startup_trials=2)
    )

    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", 1e-3, 1, log=True)
        size = trial.suggest_int("size", 32, 96, step=32) if trial.number % 2 else 0
        kind = trial.suggest_categorical("kind", ["a", "b", None])
        for step, value in enumerate((x, math.inf, -math.inf, math.nan)[: trial.number % 5], 1):
            trial.report(value, step)
        trial.set_user_attr("shown", {"kind": kind, "sizes": [size, 1.5]})
        trial.set_constraint("memory", trial.number - 3.0)
        if trial.number == 3:
            raise optuna.TrialPruned
        if trial.number == 4:
            raise KeyError
        return -math.inf if trial.number == 5 else x

    study.optimize(objective, n_trials=7, catch=KeyError)
    study.enqueue_trial({"x": 0.5})
    study.ask().suggest_float("x", 1e-3, 1, log=True)
    study.enqueue_trial({"x": 0.25}, user_attrs={"default": True})
    yield database, study
    database.close()


def _same(ours: FrozenTrial, theirs: FrozenTrial) -> None:
    for trial in (ours, theirs):  # in which order attributes are read is nobody's business
        trial.user_attrs = dict(sorted(trial.user_attrs.items()))
        trial.system_attrs = dict(sorted(trial.system_attrs.items()))
    assert repr(ours) == repr(theirs)  # NaN does not equal itself
    assert (ours._trial_id, ours.distributions) == (theirs._trial_id, theirs.distributions)


def test_trials_are_read_as_optuna_reads_them(optunas: tuple[Database, optuna.Study]) -> None:
    database, study = optunas
    for theirs in study.get_trials():
        _same(database.run(lambda session, i=theirs._trial_id: optuna_rows.read_trial(session, i)), theirs)  # type: ignore[misc]


def test_trials_are_read_again_until_they_have_ended(optunas: tuple[Database, optuna.Study]) -> None:
    database, study = optunas
    known = StudyTrials(study._study_id)

    def look(session: Session) -> list[FrozenTrial]:
        trials = known.read(session)
        known.fill(session, trials, "params", "system_attrs", "intermediate_values")
        return trials

    def compare() -> None:
        ours, theirs = database.run(look), study.get_trials()
        assert [trial.state for trial in ours] == [trial.state for trial in theirs]
        for one, other in zip(ours, theirs, strict=True):
            other.user_attrs = {}
            _same(one, other)

    compare()
    running = optuna.trial.Trial(study, study.trials[7]._trial_id)
    running.report(0.5, 1)
    study.enqueue_trial({"x": 0.125})
    compare()
    running.report(0.25, 2)
    study.tell(running, 0.25)
    study.ask()
    compare()
    for trial in database.run(known.read):
        trial.params.clear()
    again = database.run(look)
    assert [trial.state.is_finished() for trial in again] == [*[True] * 8, False, False]
    assert not any(trial.params for trial in again[:8])  # they were known, so not read again


def test_trials_are_written_as_optuna_writes_them(optunas: tuple[Database, optuna.Study]) -> None:
    database, study = optunas
    for theirs in study.get_trials():
        copied = changeable(theirs)
        database.run(lambda session, t=copied: optuna_writing.add_trial(session, study._study_id, t))  # type: ignore[misc]
        written = next(trial for trial in study.get_trials() if trial._trial_id == copied._trial_id)
        assert written.number == 9 + theirs.number
        written.number, written._trial_id, written.datetime_complete = theirs.number, theirs._trial_id, None
        theirs.datetime_complete = None
        _same(written, theirs)


def test_earlier_trials_with_the_same_parameters_are_found(optunas: tuple[Database, optuna.Study]) -> None:
    database, study = optunas
    for params in ({"x": 0.1, "kind": "a"}, {"x": 0.1, "kind": "b"}, {"x": 0.2, "kind": "a"}, {"x": 0.1, "kind": None}):
        study.enqueue_trial(params)
    while len(study.get_trials(states=[TrialState.WAITING])):
        trial = study.ask()
        trial.suggest_float("x", 1e-3, 1, log=True)
        trial.suggest_categorical("kind", ["a", "b", None])
    last = study.trials[-1]._trial_id

    def numbers(but: str) -> list[int]:
        found = set(database.run(lambda session: optuna_rows.earlier_alike(session, last, but=but)))
        return [trial.number for trial in study.trials if trial._trial_id in found]

    ahead = study.trials[:-1]
    assert numbers("kind") == [trial.number for trial in ahead if trial.params.get("x") == 0.1] == [9, 10]
    assert numbers("x") == [trial.number for trial in ahead if "kind" in trial.params and trial.params["kind"] is None]


def test_what_changed_is_written_unless_another_was_faster(optunas: tuple[Database, optuna.Study]) -> None:
    database, study = optunas
    before = study.trials[7]
    after = changeable(before)
    after.intermediate_values = {1: math.nan, 2: 0.5}
    after.user_attrs["shown"] = "new"
    assert database.run(lambda session: optuna_writing.write_changes(session, before, after))
    last = changeable(after)
    last.intermediate_values[2] = math.inf
    last.user_attrs["shown"] = "newer"
    last.set_constraint("memory", 1.0)
    last.state, last.values, last.datetime_complete = TrialState.COMPLETE, [0.5], datetime(2026, 1, 2, 3, 4, 5)
    assert database.run(lambda session: optuna_writing.write_changes(session, after, last))
    _same(study.trials[7], last)
    worse = changeable(after)
    worse.state, worse.user_attrs = TrialState.FAIL, {"shown": "late"}
    assert not database.run(lambda session: optuna_writing.write_changes(session, after, worse))
    _same(study.trials[7], last)


def test_a_draft_is_written_as_it_was_sampled(sqlite_url: str) -> None:
    database = connect(sqlite_url)
    sampler = optuna.samplers.TPESampler(seed=1, n_startup_trials=2)
    study = optuna.create_study(storage=database.optuna, sampler=sampler)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=5)
    drafting = Drafting(study, lambda: study.get_trials(deepcopy=False), number=5)
    trial = optuna.Study(study.study_name, drafting, study.sampler).ask()
    x, kind = trial.suggest_float("x", 0, 1), trial.suggest_categorical("kind", ["a", "b"])
    assert len(study.trials) == 5
    draft = drafting.draft
    assert draft is not None
    database.run(lambda session: optuna_writing.add_trial(session, study._study_id, draft))
    assert study.trials[5].params == {"x": x, "kind": kind}
    assert (study.trials[5].number, study.trials[5]._trial_id) == (5, draft._trial_id)
    assert study.trials[5].state == TrialState.RUNNING
    database.close()


def test_an_epoch_asks_the_database_few_questions(begin: Callable[..., Study], sqlite_url: str) -> None:
    study = begin(sqlite_url)
    assignment = study.next_trial(WORKER)
    assert assignment is not None
    study.report(assignment, result(1, 0.1))
    asked: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        asked.append(statement)

    event.listen(study.database.engine, "before_cursor_execute", note)
    study.report(assignment, result(2, 0.2))
    assert len(asked) <= 6, asked
