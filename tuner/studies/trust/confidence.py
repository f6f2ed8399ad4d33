"""What a few noisy runs of each config allow one to say: means with intervals, and whether the best stands out.

The model is that of a two-way layout: value = config + seed + noise, where the noise has the same spread for
all configs. So few seeds suffice, because the spread is estimated from all configs together (Montgomery,
Design and Analysis of Experiments, chapter 4); what a seed does to all configs alike cancels in differences
between them. The best of several is chosen because it looks good: its claim is judged as the largest of all
differences from the default config (Dunnett, 1955), and its lower limit as that of the largest mean.

More seeds are mostly trained because few did not suffice, and each look at the runs is another chance for luck: so the
more seeds, the less luck a claim allows (`claim_level`). One noise for all configs is an assumption. Where it is wrong,
simulations of five configs claim a false winner more often: in 6 % with three seeds whose default config is twice as
noisy as the others, in 5 % where one of the others is three times as noisy. Heavy tails do no harm. The interval of a
mean, not that of a gain, holds the truth in 92 to 93 % only where seeds do more to all configs alike than noise does.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEVEL = 0.95
"""Of the intervals of means."""
_CLAIM_LEVEL = 0.975
"""How sure a gain must be to be claimed with few seeds: one-sided, so as strict as a two-sided interval of 95 %."""
_FEW_SEEDS = 3
_UNALIKE = 0.9
"""Seeds count as unalike where noise alone makes their means differ so much less often than this."""
_EQUAL = 1e-9
"""Values that differ by no more than this part of them are equal but for rounding errors."""
_NODES = 40


@dataclass(frozen=True)
class Estimate:
    """What is known of one config.

    Attributes:
        key: The config's.
        values: Of its runs, by seed.
        mean: Of the values.
        low: Lower end of the interval that holds the true mean with 95 %.
        high: Upper end.
        gain: Mean difference from the default config, paired over seeds; 0 for the default itself.
        probability: That it is better than the default config, from the paired differences (flat prior);
            None for the default itself.
    """

    key: int
    values: tuple[float, ...]
    mean: float
    low: float
    high: float
    gain: float
    probability: float | None


@dataclass(frozen=True)
class Ranking:
    """Configs by their means, best first; larger is better.

    Attributes:
        estimates: Of all configs, the default included; those that may not win are behind the others.
        default: Key of the default config.
        spread: Standard deviation of the noise of one run; 0 where all values are equal.
        luck: Probability that the best of so many configs, none better than the default, would gain as much.
        gain_at_least: What the winner gains with `level`, its choice as the best taken into account.
    """

    estimates: tuple[Estimate, ...]
    default: int
    spread: float
    luck: float
    gain_at_least: float

    @property
    def level(self) -> float:
        """How sure the winner's gain must be to be claimed."""
        return claim_level(len(self.winner.values))

    @property
    def winner(self) -> Estimate:
        """The config of the highest mean among those that may win; the default where nothing is above it."""
        return self.estimates[0]

    @property
    def stands_out(self) -> bool:
        """Whether the winner is better than the default config by more than noise explains."""
        return self.winner.key != self.default and self.luck < 1 - self.level


def claim_level(seeds: int) -> float:
    """How sure a gain must be to be claimed with so many seeds.

    With the same level for all, a study without a better config that is looked at after 3, 6, 12 and 24 seeds would
    claim one in 7 %; so it does in 4 %.
    """
    return 1 - (1 - _CLAIM_LEVEL) * min(1.0, _FEW_SEEDS / seeds)


def rank(values: Mapping[int, Sequence[float]], default: int, barred: Collection[int] = ()) -> Ranking:
    """Rank configs that were trained with the same seeds.

    Args:
        values: For each config its values, in one order of seeds for all; at least two configs and two seeds.
        default: Key of the default config.
        barred: Configs that may not win, whatever their mean. They count among those that the best was chosen from,
            since what bars them need not be independent of their values.
    """
    from scipy import stats

    keys = list(values)
    table = np.array([values[key] for key in keys], dtype=np.float64)
    configs, seeds = table.shape
    if configs < 2 or seeds < 2:
        raise ValueError(f"{configs} configs with {seeds} seeds: at least two of each are needed")
    means, by_seed = table.mean(axis=1), table.mean(axis=0)
    residuals = table - means[:, None] - by_seed + table.mean()
    df = (configs - 1) * (seeds - 1)
    spread = max(math.sqrt((residuals**2).sum() / df), hidden_spread(table))
    spread = float(beyond_rounding(spread, table))
    noise = spread**2
    between = float(configs * ((by_seed - table.mean()) ** 2).sum() / (seeds - 1))
    # Noise and what seeds do to all configs alike, with Satterthwaite's degrees of freedom for their sum.
    parts = np.array([between, (configs - 1) * noise])
    error = math.sqrt(parts.sum() / (configs * seeds))
    # They are underestimated on average; without an effect of seeds they would be configs * (seeds - 1).
    freedom = plain = float(configs * (seeds - 1))
    if parts.sum() > 0:
        freedom = float(parts.sum() ** 2 / (parts**2 / [seeds - 1, df]).sum())
    if between <= stats.f.ppf(_UNALIKE, seeds - 1, df) * noise:
        freedom = (freedom + plain) / 2
    half = stats.t.ppf((1 + LEVEL) / 2, freedom) * error
    # The highest mean is rather too high than too low: 5 % for the first, as the best of several, 4 % for the
    # other. Both cannot be near at once, so together they are about 5 %.
    below = _largest(LEVEL, configs, freedom, math.inf) * error
    above = stats.t.ppf(0.96, freedom) * error
    gains = beyond_rounding(means - means[keys.index(default)], table)
    error_of_gain = math.sqrt(2 * noise / seeds)
    places = _places(means, table)
    # The default goes first among equals: nothing is better than it. The others keep their order.
    order = sorted(range(configs), key=lambda i: (keys[i] in barred, places[i], keys[i] != default, i))
    estimates = tuple(
        Estimate(
            key=keys[i],
            values=tuple(float(v) for v in table[i]),
            mean=float(means[i]),
            low=float(means[i] - (below if i == order[0] else half)),
            high=float(means[i] + (above if i == order[0] else half)),
            gain=float(gains[i]),
            probability=None if keys[i] == default else _above(float(gains[i]), error_of_gain, df),
        )
        for i in order
    )
    gain = estimates[0].gain
    bound = _largest(claim_level(seeds), configs - 1, df, 1.0) * spread / math.sqrt(seeds)
    return Ranking(estimates, default, spread, chance(gain, spread, df, configs - 1, seeds, seeds), gain - bound)


def _places(means: NDArray[np.float64], values: ArrayLike) -> NDArray[np.int64]:
    """(n,) places of means from the best on, the same for those that differ by rounding alone."""
    best_first = np.argsort(-means)
    places = np.zeros(len(means), dtype=np.int64)
    places[best_first[1:]] = np.cumsum(beyond_rounding(np.diff(means[best_first]), values) != 0)
    return places


def beyond_rounding(differences: ArrayLike, values: ArrayLike) -> NDArray[np.float64]:
    """Differences of means, 0 where they are so small that they come from rounding alone.

    Args:
        differences: In any shape.
        values: All of which the means are, in any shape.
    """
    found = np.asarray(differences, dtype=np.float64)
    return np.where(np.abs(found) > _EQUAL * np.abs(values).max(), found, 0.0)


def hidden_spread(values: ArrayLike) -> float:
    """Standard deviation that values may have though they are equal, as theirs come in steps: a count, a rate of few.

    The smallest difference between them is taken for a step, within which the unrounded ones lie evenly. Of metrics
    that are not rounded it is next to nothing. Without it, two equal runs would make any gain a certain one.

    Args:
        values: Of all runs that are compared, in any shape.
    """
    steps = np.diff(np.unique(np.asarray(values, dtype=np.float64)))
    steps = steps[steps > _EQUAL * np.abs(values).max()]
    return float(steps.min(initial=math.inf)) / math.sqrt(12) if len(steps) else 0.0


def chance(gain: float, spread: float, df: float, candidates: int, runs: float = 1, default_runs: float = 1) -> float:
    """Probability that the best of some configs gains as much over the default though none is better than it.

    Args:
        gain: Of the best mean over the default's mean.
        spread: Estimated standard deviation of one run; 0 where all values are equal.
        df: Degrees of freedom of that estimate.
        candidates: Configs among which the best was chosen.
        runs: Runs of each.
        default_runs: Runs of the default config.
    """
    if spread == 0:
        return 1.0
    return 1 - _holds(gain / spread * math.sqrt(runs), candidates, float(df), default_runs / runs)


def _above(gain: float, error: float, df: int) -> float:
    from scipy import stats

    if error == 0:  # all values are equal
        return 0.5
    return float(stats.t.cdf(gain / error, df))


@lru_cache(maxsize=256)
def _largest(level: float, candidates: int, df: float, default_runs: float) -> float:
    """What the largest of some errors stays below with a probability, in estimated standard errors."""
    from scipy import optimize

    return float(optimize.brentq(lambda x: _holds(x, candidates, df, default_runs) - level, 0.0, 1e4, rtol=1e-6))


def _holds(limit: float, candidates: int, df: float, default_runs: float) -> float:
    """Probability that no candidate's error, less that of the default, is above a limit.

    Candidates' errors are standard normal, the default's has the variance 1 / default_runs, and the limit is
    in units of a standard deviation that was estimated with `df` degrees of freedom (Dunnett's integral).
    """
    from scipy import special

    estimated, own, weights = _nodes(df)
    below = special.ndtr(limit * estimated[:, None] + own[None, :] / math.sqrt(default_runs)) ** candidates
    return float(weights @ below @ weights)


@lru_cache(maxsize=16)
def _nodes(df: float) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Estimated standard deviations (true: 1) and standard normal errors, with their weights in an integral."""
    from scipy import special

    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    share = (nodes + 1) / 2
    return np.sqrt(special.chdtri(df, 1 - share) / df), special.ndtri(share), weights / 2
