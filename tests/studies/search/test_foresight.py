"""What trials would be worth after their last epoch, and what a model learns from it."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from scipy.stats import rankdata

from tuner.studies.search.foresight import as_complete, half_rank, last_values

RANGE = {"x": FloatDistribution(0.0, 1.0)}


def trial(number: int, curve: dict[int, float], *, complete: bool = False, violated: float = 0.0) -> FrozenTrial:
    """A trial that is complete with its last value, or pruned after it."""
    end: dict[str, Any] = {"value": curve[max(curve)]} if complete else {"state": TrialState.PRUNED}
    made = create_trial(
        params={"x": 0.5}, distributions=dict(RANGE), intermediate_values=curve, constraints={"memory": violated}, **end
    )
    made.number = number
    return made


def test_the_gain_to_come_is_the_median_of_those_that_went_on() -> None:
    curves: list[dict[int, float]] = [
        {3: 0.1},
        {3: 0.2, 9: 0.5},
        {3: 0.3, 9: 0.5, 27: 0.8},
        {3: 0.4, 6: 0.6, 9: 0.8, 27: 0.9},
        {},
    ]
    # From 3 to 9 they gained 0.3, 0.2 and 0.4; from 9 to 27 0.3 and 0.1.
    expected = [0.1 + 0.3 + 0.2, 0.5 + 0.2, 0.8, 0.9, None]
    assert last_values(curves) == [None if value is None else pytest.approx(value) for value in expected]


def test_trials_that_stopped_together_keep_their_order_and_distance() -> None:
    assert last_values([{3: 0.1}, {3: 0.3}]) == [0.1, 0.3]


def test_between_epochs_that_no_two_trials_have_nothing_is_added() -> None:
    assert last_values([{1: 0.1}, {2: 0.3}, {3: 0.2}]) == [0.1, 0.3, 0.2]


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30))
def test_below_the_median_only_the_order_counts(given: list[float]) -> None:
    values = np.array(given)
    warped = half_rank(values)
    median = np.sort(values)[len(values) // 2]
    upper = values >= median
    assert np.array_equal(warped[upper], values[upper])
    assert (warped[~upper] <= median).all()
    order = np.argsort(values, kind="stable")
    assert (np.diff(warped[order]) >= 0).all()
    far = np.where(upper, values, rankdata(values) - 1e6)  # much worse, in the same order
    assert np.array_equal(half_rank(far), warped)


@pytest.mark.parametrize("direction", list(StudyDirection)[1:])
def test_a_complete_trial_is_worth_its_value_however_short_its_curve(direction: StudyDirection) -> None:
    """Others gained 0.6 from the first epoch to the last: that is in its value already."""
    sign = 1 if direction == StudyDirection.MAXIMIZE else -1
    curves: list[dict[int, float]] = [{1: 0.1, 3: 0.4, 9: 0.7}, {1: 0.2, 3: 0.5, 9: 0.8}, {1: 0.1}, {1: 0.2, 3: 0.45}]
    trials = [
        trial(number, {epoch: sign * value for epoch, value in curve.items()}, complete=number in (0, 1, 3))
        for number, curve in enumerate(curves)
    ]
    told = create_trial(params={"x": 0.5}, distributions=dict(RANGE), value=sign * 0.75)  # by another client
    told.number = 4
    shown = as_complete([*trials, told], direction)
    assert shown[4].value == pytest.approx(sign * 0.75)
    assert shown[1].value == pytest.approx(sign * 0.8)
    # The third and the fourth are below the median, where only the order counts.
    assert sign * shown[3].value < sign * shown[2].value <= sign * shown[0].value


def test_what_runs_or_failed_stays_as_it_is() -> None:
    trials = [trial(0, {3: 0.2, 9: 0.5}, complete=True), trial(1, {3: 0.4})]
    for number, state in ((2, TrialState.RUNNING), (3, TrialState.FAIL)):
        other = trial(number, {3: 0.9})
        other.state = state
        trials.append(other)
    shown = as_complete(trials, StudyDirection.MAXIMIZE)
    assert [one.number for one in shown] == [0, 1, 2, 3]
    assert shown[2:] == trials[2:]
    assert [one.state for one in shown[:2]] == [TrialState.COMPLETE] * 2
    assert shown[1].value == pytest.approx(0.7)
    assert trials[1].state == TrialState.PRUNED  # the trials themselves are not changed


@pytest.mark.parametrize("direction", [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE])
def test_a_trial_without_a_value_or_beyond_a_constraint_is_as_bad_as_the_worst(direction: StudyDirection) -> None:
    sign = 1 if direction == StudyDirection.MAXIMIZE else -1
    trials = [
        trial(0, {3: sign * 0.5}),
        trial(1, {3: sign * 0.4}),
        trial(2, {3: sign * 0.3}),
        trial(3, {}, violated=1.0),
        trial(4, {3: sign * 0.9}, violated=0.2),
    ]
    shown = as_complete(trials, direction)
    values = [sign * (one.value or 0.0) for one in shown]
    assert values[0] > values[1] > values[2] == values[3] == values[4]
    assert not any(one.constraints for one in shown)


def test_where_nothing_is_known_a_model_has_nothing_to_learn_from() -> None:
    assert as_complete([trial(0, {}, violated=1.0)], StudyDirection.MAXIMIZE) == []


def test_a_gaussian_process_learns_from_trials_that_were_pruned_early() -> None:
    """Bad trials end early, and low; the best lie where none was complete."""
    from tuner.config.study import SamplerSpec
    from tuner.space.load import load_space
    from tuner.studies.search.samplers import build_sampler

    space = load_space({"augment.mosaic": {"type": "float", "low": 0.0, "high": 1.0}})
    study = optuna.create_study(direction="maximize")
    for x in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        curve = {3: 0.5 - (x - 0.7) ** 2} | ({9: 0.6} if x == 0.4 else {})
        study.add_trial(
            create_trial(
                params={"augment.mosaic": x}, distributions=space.distributions(), intermediate_values=curve,
                **({"value": 0.6} if x == 0.4 else {"state": TrialState.PRUNED}),
            )
        )  # fmt: skip
    found = []
    for ask in range(6, 14):
        study.sampler = build_sampler(SamplerSpec(name="gp"), space, ask, {"augment.mosaic": 0.0})
        found.append(study.ask(space.distributions()).params["augment.mosaic"])
    near = [x for x in found if 0.6 <= x <= 0.8]
    assert len(near) >= len(found) / 2
