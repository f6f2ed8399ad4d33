import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tests.benchmarks.bench_confirm import impatient, simulate
from tuner.studies.trust.confidence import chance, claim_level, rank
from tuner.studies.trust.confirmation import Confirmation


def test_intervals_hold_and_luck_is_not_claimed() -> None:
    for common in (0.0, 0.004, 0.016):
        coverage, winners, _ = simulate(200, 0.008, 0.01, common=common)
        assert 0.93 <= coverage <= 0.97
        assert 0.92 <= winners <= 0.99
        _, _, claims = simulate(200, 0.008, 0.0, common=common)
        assert claims <= 0.05
    _, _, found = simulate(50, 0.008, 0.05)
    assert found > 0.7


def test_who_adds_seeds_until_a_winner_is_found_is_not_fooled_more_often() -> None:
    assert impatient(200, 0.008) <= 0.05
    few, more, many = (claim_level(seeds) for seeds in (3, 6, 30))
    assert (few, more) == (0.975, 0.9875)
    assert many < 1.0


def test_the_chance_is_dunnetts() -> None:
    rng = np.random.default_rng(0)
    default, *others = rng.normal(size=(6, 4))
    expected = stats.dunnett(*others, control=default, alternative="greater", rng=np.random.default_rng(1))
    spread = float(np.sqrt(np.mean([np.var(one, ddof=1) for one in (default, *others)])))
    gains = [one.mean() - default.mean() for one in others]
    best = int(np.argmax(gains))
    assert chance(gains[best], spread, 18, 5, 4, 4) == pytest.approx(expected.pvalue[best], abs=2e-3)


def test_one_candidate_is_the_t_test() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 5))
    spread = float(np.sqrt((np.var(a, ddof=1) + np.var(b, ddof=1)) / 2))
    expected = stats.ttest_ind(a, b, alternative="greater").pvalue
    assert chance(a.mean() - b.mean(), spread, 8, 1, 5, 5) == pytest.approx(expected, abs=1e-3)


def test_the_probability_is_that_of_the_paired_differences() -> None:
    a, b = np.random.default_rng(3).normal(size=(2, 4))
    found = rank({0: b, 7: a}, default=0)
    one = next(estimate for estimate in found.estimates if estimate.key == 7)
    assert one.probability == pytest.approx(1 - stats.ttest_rel(a, b, alternative="greater").pvalue)
    assert one.gain == pytest.approx(a.mean() - b.mean())


runs = st.lists(st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3), min_size=2, max_size=6)


@settings(max_examples=50, deadline=None)
@given(runs, st.floats(-0.5, 0.5, width=16))
def test_means_rank_and_a_shift_changes_nothing_else(values: list[list[float]], shift: float) -> None:
    found = rank(dict(enumerate(values)), default=0)
    means = [one.mean for one in found.estimates]
    assert all(after <= before + 1e-9 for before, after in pairwise(means))  # but for rounding
    for one in found.estimates:
        assert one.low <= one.mean <= one.high
        assert (one.probability is None) == (one.key == 0)
    moved = rank({key: [v + shift for v in one] for key, one in enumerate(values)}, default=0)
    assert moved.spread == pytest.approx(found.spread, abs=1e-6)


def test_equal_values_are_no_gain() -> None:
    found = rank({3: [0.5, 0.6], 0: [0.5, 0.6], 5: [0.5, 0.6]}, default=0)
    assert found.winner.key == 0
    assert not found.stands_out
    assert found.luck > 0.5


def test_means_that_differ_by_rounding_alone_are_equal() -> None:
    """Values in tenths, as of few images: (0.1 + 0.5) / 2 is a little less than (0.2 + 0.4) / 2 in floats."""
    found = rank({0: [0.1, 0.5], 1: [0.2, 0.4]}, default=0)
    assert found.winner.key == 0
    assert [one.gain for one in found.estimates] == [0.0, 0.0]


def test_equal_runs_are_no_proof_that_there_is_no_noise() -> None:
    """A metric that comes in steps hides it: a gain of one step may be luck, one of many is none."""
    found = rank({0: [0.5, 0.5], 1: [0.625, 0.625]}, default=0)
    assert found.spread == pytest.approx(0.125 / np.sqrt(12))
    assert not found.stands_out
    assert found.winner.low < 0.625 < found.winner.high
    assert 0.5 < (found.winner.probability or 0.0) < 0.95
    steps = rank({0: [0.5, 0.5, 0.5], 1: [0.625, 0.625, 0.625], 2: [0.51, 0.51, 0.51]}, default=0)
    assert steps.stands_out
    assert steps.winner.key == 1


def test_few_studies_without_a_better_config_claim_one_where_the_metric_is_coarse() -> None:
    generator = np.random.default_rng(0)
    for step in (0.25, 0.5, 1.0):  # of the noise; two seeds are what the shortest of plans has
        values = np.round(generator.normal(size=(1500, 2, 2)) / step) * step
        claims = sum(rank({0: study[0], 1: study[1]}, default=0).stands_out for study in values)
        assert claims < 0.04 * len(values)


def test_equal_means_keep_their_order_whatever_rounding_makes_of_them() -> None:
    values = {0: [0.1, 0.1, 0.1], 5: [0.1, 0.2, 0.3], 3: [0.3, 0.2, 0.1], 4: [0.2, 0.3, 0.1]}
    assert len({float(np.mean(own)) for own in values.values()}) > 2
    assert [one.key for one in rank(values, default=0).estimates] == [5, 3, 4, 0]
    turned = {key: values[key] for key in (0, 4, 3, 5)}
    assert [one.key for one in rank(turned, default=0).estimates] == [4, 3, 5, 0]


@pytest.mark.parametrize("value", [0.0, 0.1, 0.7])
def test_where_all_runs_have_the_same_value_more_seeds_promise_nothing(value: float) -> None:
    found = Confirmation(rank({0: [value] * 3, 7: [value] * 3}, 0), (1, 2, 3), {}, {}, 0, {}, {})
    assert (found.ranking.spread, found.seeds_to_propose) == (0.0, None)
    assert found.verdict == "nothing was better than the default config: all runs have the same value"


def test_too_little_to_rank() -> None:
    with pytest.raises(ValueError, match="at least two"):
        rank({0: [0.5], 1: [0.6]}, default=0)


def test_the_verdict_says_what_was_found_and_what_is_missing() -> None:
    default, better = [0.50, 0.52, 0.51], [0.53, 0.525, 0.53]
    found = Confirmation(rank({0: default, 7: better}, 0), (1, 2, 3), {}, {}, 0, {}, {})
    assert 0.9 < (found.ranking.winner.probability or 0.0) < 0.975
    assert re.fullmatch(
        r"trial 7 gains \+0\.0183 on average, at least -0\.\d+ with 97\.5%: better than the "
        r"default config with a probability of 9\d\.\d%, and a claim takes 97\.5%; "
        r"if the gain stays, \d seeds are enough for it",
        found.verdict,
    )
    several = Confirmation(rank({0: default, 7: better, 8: default}, 0), (1, 2, 3), {}, {}, 0, {}, {})
    assert "% by itself, 9" in several.verdict
    assert "% as the best of 2, and a claim takes" in several.verdict
    equal = Confirmation(rank({0: default, 7: [0.51, 0.52, 0.501]}, 0), (1, 2, 3), {}, {}, 0, {}, {})
    assert equal.verdict.endswith("the two are about equal")
    sure = Confirmation(rank({0: default, 7: [0.60, 0.62, 0.615]}, 0), (1, 2, 3), {}, {}, 0, {}, {})
    assert sure.verdict.startswith("trial 7 is better than the default config: +0.1017, at least +0.0")
