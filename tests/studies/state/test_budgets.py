"""The arithmetic of budgets; that they end studies is shown through the command line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.studies.state.budgets import covered, epoch_noise, expected_gain

MOMENT = st.integers(0, 30)


@given(st.lists(st.tuples(MOMENT, MOMENT).map(lambda span: (min(span), max(span)))))
def test_time_in_which_something_ran_counts_once(spans: list[tuple[float, float]]) -> None:
    seconds = sum(any(start <= second < end for start, end in spans) for second in range(30))
    assert covered(spans) == seconds


def test_gain_of_the_last_trials_over_those_before() -> None:
    assert expected_gain([0.1, 0.5, 0.4, 0.6], 2, True) == pytest.approx(0.1)
    assert expected_gain([0.1, 0.5, 0.4, 0.3], 2, True) == 0.0
    assert expected_gain([5.0, 4.0, 3.0], 1, False) == 1.0
    assert expected_gain([0.1, 0.5], 2, True) is None
    pruned = float("-inf")
    assert expected_gain([0.5, pruned, pruned], 2, True) == 0.0
    assert expected_gain([pruned, pruned, 0.5], 1, True) == float("inf")


def test_noise_is_the_change_at_the_end_of_the_median_curve() -> None:
    rising_then_flat = [0.1, 0.2, 0.3, 0.4, 0.5, 0.5, 0.52, 0.5]
    assert epoch_noise([rising_then_flat]) == pytest.approx(0.02)
    assert epoch_noise([rising_then_flat, [0.0, 1.0], [0.3] * 8]) == pytest.approx(0.02)
    assert epoch_noise([[0.4]]) == epoch_noise([]) == 0.0
