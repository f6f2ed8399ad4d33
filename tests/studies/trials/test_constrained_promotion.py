"""Constraints while a study still runs: who goes on from a rung, what samplers see, and when no gain is expected."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from study_cases import EPOCHS, WORKER, result

from tuner.studies.state.records import Assignment, TrialState
from tuner.studies.study import Study
from tuner.studies.trust.confirm import plan_confirmation

Begin = Callable[..., Study]
LIMIT = "map75 <= 0.5"
PROMOTE = {"name": "promote", "first_rung": 1}


def reach(study: Study, assignment: Assignment, value: float, *, breaks: bool = False) -> TrialState:
    """Train at one value until the study says stop, with the constraint broken from the first epoch on, or not."""
    for epoch in range(assignment.first_epoch, EPOCHS + 1):
        found = result(epoch, value)
        metrics = found.metrics.model_copy(update={"map75": 0.6 if breaks else 0.5})
        if study.report(assignment, dataclasses.replace(found, metrics=metrics)):
            return study.stop_early(assignment)
    study.complete(assignment)
    return TrialState.COMPLETE


def run_to_its_end(study: Study, value: Callable[[int], float], breaks: Callable[[int], bool]) -> None:
    while (assignment := study.next_trial(WORKER)) is not None:
        reach(study, assignment, value(assignment.number), breaks=breaks(assignment.number))


def test_configs_that_keep_the_constraints_go_on_before_better_ones_that_do_not(sqlite_url: str, begin: Begin) -> None:
    study = begin(sqlite_url, pruner=PROMOTE, budget={"trials": 12}, constraints=[LIMIT])
    run_to_its_end(study, lambda number: 0.1 + number / 100 + number % 2 / 2, lambda number: number % 2 == 1)
    complete = [trial.number for trial in study.trials() if trial.state is TrialState.COMPLETE]
    assert 0 in complete
    assert any(number % 2 == 0 for number in complete if number)
    assert sum(number % 2 for number in complete) < len(complete) / 2
    best = study.best()
    assert best is not None
    assert best.number % 2 == 0
    plan_confirmation(study, top=1, seeds=2)  # there is what to confirm


def test_one_that_breaks_a_constraint_at_last_is_not_what_a_study_closes_with(begin: Begin, sqlite_url: str) -> None:
    """The constraint is about what is not known at the rungs."""
    study = begin(sqlite_url, pruner=PROMOTE, budget={"trials": 4}, constraints=["f1 >= 0.9"])
    while (assignment := study.next_trial(WORKER)) is not None:
        for epoch in range(assignment.first_epoch, EPOCHS + 1):
            found = result(epoch, 0.1 + assignment.number / 10)
            f1 = 0.95 if assignment.number < 3 else 0.8  # the best one breaks it
            if (point := found.metrics.operating_point) is not None:
                point = point.model_copy(update={"f1": f1})
            metrics = found.metrics.model_copy(update={"operating_point": point})
            if study.report(assignment, dataclasses.replace(found, metrics=metrics)):
                study.stop_early(assignment)
                break
        else:
            study.complete(assignment)
    states = [trial.state for trial in study.trials()]
    assert states == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.COMPLETE, TrialState.COMPLETE]
    best = study.best()
    assert best is not None
    assert best.number == 2


def test_samplers_see_what_paused_trials_violate(studies_url: str, begin: Begin) -> None:
    study = begin(studies_url, pruner=PROMOTE, constraints=[LIMIT])
    for number in range(2):
        assignment = study.next_trial(WORKER)
        assert assignment is not None
        assert reach(study, assignment, 0.3, breaks=number == 1) is TrialState.PAUSED
    shown = study.database.run(study._asker._sampler.look).shown
    assert [trial.constraints for trial in shown] == [{LIMIT: 0.0}, {LIMIT: pytest.approx(0.1)}]
    assert not any(trial.constraints for trial in study.optuna.trials)  # told at their end


def test_a_better_value_that_breaks_a_constraint_is_no_gain_to_compare_with(begin: Begin, sqlite_url: str) -> None:
    study = begin(
        sqlite_url, pruner={"name": "none"}, budget={"trials": None, "no_gain": 3}, constraints=[LIMIT]
    )  # fmt: skip
    for number, value in enumerate((0.3, 0.9, 0.4, 0.5, 0.6)):
        assignment = study.next_trial(WORKER)
        assert assignment is not None
        reach(study, assignment, value, breaks=number == 1)
    assert study.summary().spent is None  # of those that keep it, each was better than the last
    for _ in range(3):
        assignment = study.next_trial(WORKER)
        assert assignment is not None
        reach(study, assignment, 0.8, breaks=True)
    assert "the last 3 trials raised the best value by 0.0000" in str(study.summary().spent)


@pytest.mark.parametrize("pruner", [{"name": "none"}, PROMOTE])
def test_trials_that_pause_were_judged(begin: Begin, sqlite_url: str, pruner: dict[str, object]) -> None:
    study = begin(sqlite_url, pruner=pruner, budget={"trials": None, "no_gain": 5})
    run_to_its_end(study, lambda number: 0.5 - number / 100, lambda number: False)
    assert "the last 5 trials" in str(study.summary().spent)
    # With rungs, what it takes until one is complete comes first.
    assert len(study.trials()) <= (6 if pruner["name"] == "none" else 18)
    assert sum(trial.state is TrialState.COMPLETE for trial in study.trials()) >= 2
