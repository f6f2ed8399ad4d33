"""Rank correlations of epochs with the last, and how well few trials tell them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from tuner.studies.replay.correlation import correlation_interval, rank_correlations, trusted_from


@given(st.lists(st.lists(st.integers(0, 3), min_size=4, max_size=4), min_size=3, max_size=9))
def test_rank_correlation_is_spearmans(curves: list[list[float]]) -> None:
    found = rank_correlations(curves)
    table = np.array(curves)
    for epoch, correlation in enumerate(found):
        if len(set(table[:, epoch])) == 1 or len(set(table[:, -1])) == 1:
            assert correlation is None
        else:
            assert correlation == pytest.approx(spearmanr(table[:, epoch], table[:, -1]).statistic)


def test_the_first_rung_is_where_the_correlation_stays_high() -> None:
    assert trusted_from([0.9, 0.5, 0.8, 0.95, 1.0]) == 3
    assert trusted_from([0.9, 0.9, 1.0]) == 1
    assert trusted_from([None, 0.7, 1.0]) == 3
    # Four ranks of which two neighbours change places twice correlate by 0.8, as floating point has it a little less.
    assert trusted_from(rank_correlations([[2, 1], [1, 2], [3, 3], [4, 4]])) == 1


@pytest.mark.parametrize("count", [8, 20])
def test_the_interval_holds_the_truth_in_19_of_20_samples(count: int) -> None:
    pearson, samples = 0.8, 2000
    truth = 6 / np.pi * np.arcsin(pearson / 2)
    drawn = np.random.default_rng(0).multivariate_normal([0, 0], [[1, pearson], [pearson, 1]], (samples, count))
    inside = 0
    for one in drawn:
        found = spearmanr(one).statistic
        interval = correlation_interval(min(float(found), 1 - 1e-9), count)
        assert interval is not None
        inside += interval[0] <= truth <= interval[1]
    assert 0.93 < inside / samples < 0.97


def test_three_trials_tell_nothing() -> None:
    assert correlation_interval(0.8, 3) is None
