"""What samplers see of thousands of trials, and how often the database is asked for an epoch."""

from collections.abc import Callable
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import event
from study_cases import WORKER, result

from tuner.studies.study import Study
from tuner.studies.views import SEEN_TRIALS, Drafting, seen


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


def test_a_draft_is_written_as_it_was_sampled() -> None:
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=1, n_startup_trials=2))
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=5)
    drafting = Drafting(study._storage, study._study_id, study.get_trials(deepcopy=False), 5)
    trial = optuna.Study(study.study_name, drafting, study.sampler).ask()
    x, kind = trial.suggest_float("x", 0, 1), trial.suggest_categorical("kind", ["a", "b"])
    assert len(study.trials) == 5
    kept = drafting.keep()
    assert study.trials[5].params == {"x": x, "kind": kind}
    assert (study.trials[5].number, study.trials[5]._trial_id) == (5, kept._trial_id)
    assert study.trials[5].state == TrialState.RUNNING


def test_an_epoch_asks_the_database_few_questions(begin: Callable[..., Study], sqlite_url: str) -> None:
    study = begin(sqlite_url)
    assignment = study.next_trial(WORKER)
    assert assignment is not None
    study.report(assignment, result(1, 0.1))
    asked: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        asked.append(statement)

    for engine in (study.database.engine, study.database.optuna._backend.engine):  # type: ignore[attr-defined]
        event.listen(engine, "before_cursor_execute", note)
    study.report(assignment, result(2, 0.2))
    assert len(asked) <= 8, asked
