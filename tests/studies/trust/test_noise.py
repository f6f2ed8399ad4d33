"""Repeats of the default config: what they cost counts against the budget, and what they say of the best trial."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from study_cases import WORKER, train

from tuner.config.errors import FailureKind
from tuner.export.production import production_config
from tuner.studies.state.records import UNCOUNTED, TrialState
from tuner.studies.study import Study
from tuner.studies.trust.confidence import chance
from tuner.studies.trust.confirm import confirmation, plan_confirmation
from tuner.studies.trust.noise import noise_of, plan_baseline
from tuner.studies.trust.repeats import Repeats

Begin = Callable[..., Study]


def run_all(repeats: Repeats) -> None:
    while (run := repeats.next_trial(WORKER)) is not None:
        train(repeats, run, 0.3)


def run_one(study: Study, value: float) -> None:
    assignment = study.next_trial(WORKER)
    assert assignment is not None
    train(study, assignment, value)


def test_repeats_of_the_default_config_count(sqlite_url: str, begin: Begin) -> None:
    budget = {"trials": None, "epochs": 40, "cpu_hours": 1.0, "wall_time": 3600.0}
    study = begin(sqlite_url, pruner={"name": "none"}, budget=budget)
    run_one(study, 0.3)
    run_one(study, 0.4)
    assert study.summary().spent is None
    run_all(plan_baseline(study, 3))
    assert study.summary().spent is None  # 36 of 40 epochs
    run_all(plan_baseline(study, 4))
    assert study.summary().spent == "45 of 40 epochs"
    assert study.next_trial(WORKER) is None
    study = begin(sqlite_url, pruner={"name": "none"}, budget=budget | {"epochs": 46})
    run_all(plan_confirmation(study, 1, 3))  # the default's runs are there
    assert study.summary().spent is None
    assert study.summary().epochs == 18


def test_the_best_of_many_stands_out_later_than_the_best_of_few(begin: Begin, sqlite_url: str) -> None:
    """Those that a pruner stopped count, too: the best is the best of them all."""
    study = begin(sqlite_url, budget={"trials": 40})
    run_one(study, 0.3)
    repeats = plan_baseline(study, 5)
    for value in (0.29, 0.31, 0.3, 0.3):
        run = repeats.next_trial(WORKER)
        assert run is not None
        train(repeats, run, value)
    run_one(study, 0.33)
    few = noise_of(study)
    assert few is not None
    assert few.stands_out
    for number in range(20):
        run_one(study, 0.1 - 0.001 * number)
    many = noise_of(study)
    assert many is not None
    assert study.summary().counts[TrialState.PRUNED] > 15
    assert (many.gain, many.stands_out) == (few.gain, False)


def test_trials_that_were_never_trained_are_no_competitors(begin: Begin, sqlite_url: str) -> None:
    study = begin(sqlite_url, pruner={"name": "none"}, budget={"trials": 40})
    run_one(study, 0.3)
    repeats = plan_baseline(study, 2)
    run = repeats.next_trial(WORKER)
    assert run is not None
    train(repeats, run, 0.31)
    run_one(study, 0.33)
    before = noise_of(study)
    for kind in UNCOUNTED:
        assignment = study.next_trial(WORKER)
        assert assignment is not None
        study._ender.end(assignment, TrialState.PRUNED, "not trained", kind)
    assert noise_of(study) == before
    run_one(study, 0.1)
    assert noise_of(study) != before


def test_the_default_config_gains_nothing_over_itself(begin: Begin, sqlite_url: str) -> None:
    study = begin(sqlite_url, pruner={"name": "none"})
    run_one(study, 0.4)
    run_all(plan_baseline(study, 3))
    run_one(study, 0.3)
    found = noise_of(study)
    assert found is not None
    assert "no trial is better than their mean" in found.verdict


def test_a_default_config_whose_own_trial_failed_is_known_by_its_repeats(begin: Begin, sqlite_url: str) -> None:
    study = begin(sqlite_url, pruner={"name": "none"})
    default = study.next_trial(WORKER)
    assert default is not None
    study.fail(default, FailureKind.DIVERGED, "the loss is not finite")
    repeats = plan_baseline(study, 3)
    for value in (0.3, 0.32):
        assert noise_of(study) is None
        run = repeats.next_trial(WORKER)
        assert run is not None
        train(repeats, run, value)
    run_one(study, 0.34)
    found = noise_of(study)
    assert found is not None
    assert (found.values, found.trial, found.gain) == ((0.3, 0.32), 1, pytest.approx(0.03))
    assert found.luck == pytest.approx(chance(0.03, found.spread, 1, 1, 1, 2))
    assert production_config(study).provenance.trust.endswith(
        f"no finished default trial to compare with; {found.verdict}"
    )


def test_the_default_config_is_known_whatever_its_number(begin: Begin, sqlite_url: str) -> None:
    """Another client queued a point first, so that the default config is not trial 0."""
    study = begin(sqlite_url, pruner={"name": "none"})
    study.optuna.enqueue_trial({"learning_rate": 0.01, "augment.mosaic": 0.5, "anchors": "default"})
    run_all(plan_baseline(study, 3))
    run_one(study, 0.3)
    run_one(study, 0.8)
    default = study.default_trial()
    assert default is not None
    assert default.number == 1
    noise = noise_of(study)
    assert noise is not None
    assert noise.values == (0.3, 0.3, 0.3)
    repeats = plan_confirmation(study, 1, 2)
    assert {(run.params["trial"], run.is_default) for run in repeats.unfinished()} == {(0, False)}
    while (run := repeats.next_trial(WORKER)) is not None:
        train(repeats, run, 0.8)
    found = confirmation(study)
    assert found is not None
    assert found.winner is not None
    assert (found.winner.key, found.winner.mean) == (0, pytest.approx(0.8))


@pytest.mark.parametrize(("value", "said"), [(0.2, "map50 >= 0.35 (0.2333 on average)"), (0.5, "")])
def test_that_the_default_config_breaks_a_constraint_is_said(
    begin: Begin, sqlite_url: str, value: float, said: str
) -> None:
    """A gain over what is not allowed is none over an allowed config. The mean counts where there are several runs."""
    study = begin(sqlite_url, pruner={"name": "none"}, constraints=["map50 >= 0.35", "map75 >= 0.1"])
    run_one(study, 0.3)
    run_one(study, 0.5)
    itself = "; the default config itself does not keep "
    assert production_config(study).provenance.trust.endswith(f"may be noise{itself}map50 >= 0.35 (0.3)")
    repeats = plan_baseline(study, 3)
    while (run := repeats.next_trial(WORKER)) is not None:
        train(repeats, run, value)
    found, trust = noise_of(study), production_config(study).provenance.trust
    assert found is not None
    assert trust.endswith(found.verdict)
    assert found.verdict.partition(itself)[2] == said


def test_a_better_trial_that_breaks_a_constraint_is_not_denied(begin: Begin, sqlite_url: str) -> None:
    study = begin(sqlite_url, pruner={"name": "none"}, constraints=["map50 <= 0.4"])
    for value in (0.3, 0.5, 0.2):
        run_one(study, value)
    run_all(plan_baseline(study, 3))
    found = noise_of(study)
    assert found is not None
    assert found.verdict.endswith("; no trial that keeps the constraints is better than their mean")


def test_equal_runs_leave_a_small_gain_in_doubt(begin: Begin, sqlite_url: str) -> None:
    """As where nothing is detected yet."""
    study = begin(sqlite_url, pruner={"name": "none"})
    run_one(study, 0.0)
    repeats = plan_baseline(study, 3)
    while (run := repeats.next_trial(WORKER)) is not None:
        train(repeats, run, 0.0)
    run_one(study, 0.0)
    run_one(study, 0.001)
    found = noise_of(study)
    assert found is not None
    assert found.spread == pytest.approx(0.001 / 12**0.5)
    assert not found.stands_out
    assert "does not stand out yet" in found.verdict


@pytest.mark.parametrize("metric", ["map", "-1*map"])
@pytest.mark.parametrize("value", [0.1, 0.7])
def test_a_trial_with_the_value_of_all_runs_gains_nothing(
    begin: Begin, sqlite_url: str, metric: str, value: float
) -> None:
    """The mean of equal values may differ from them by a rounding error."""
    study = begin(sqlite_url, objective={"metric": metric}, pruner={"name": "none"})
    run_one(study, value)
    repeats = plan_baseline(study, 3)
    while (run := repeats.next_trial(WORKER)) is not None:
        train(repeats, run, value)
    run_one(study, value)
    found = noise_of(study)
    assert found is not None
    assert found.gain == 0
    assert "no trial is better than their mean" in found.verdict
