"""How well the ranking of trials at an epoch tells their ranking at the last: Spearman's rank correlation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata

TRUSTED = 0.8
"""Rank correlation with the last epoch from which an epoch is taken for a fair judge."""
_NORMAL_95 = 1.959964


def rank_correlations(curves: Sequence[Sequence[float]]) -> list[float | None]:
    """Spearman's rank correlation of each epoch with the last, over curves of one length.

    None where all values of one of the two are equal.
    """
    table = np.asarray(curves, np.float64)
    ranks = rankdata(table, axis=0)
    last = ranks[:, -1]
    found: list[float | None] = []
    for now in ranks.T:
        varies = now.std() > 0 and last.std() > 0
        found.append(float(np.corrcoef(now, last)[0, 1]) if varies else None)
    return found


def trusted_from(correlations: Sequence[float | None]) -> int:
    """The first epoch from which no correlation is below `TRUSTED`; the last epoch at worst."""
    epoch = len(correlations)
    while epoch > 1 and (correlations[epoch - 2] or 0.0) > TRUSTED - 1e-9:  # ranks of few trials give just 0.8
        epoch -= 1
    return epoch


def correlation_interval(correlation: float, count: int) -> tuple[float, float] | None:
    """95 % interval of a rank correlation that was measured on `count` pairs; None for fewer than four.

    Fisher's z with the variance of Bonett and Wright, "Sample size requirements for estimating Pearson, Kendall and
    Spearman correlations", Psychometrika 65 (2000).
    """
    if count < 4:
        return None
    reach = _NORMAL_95 * math.sqrt((1 + correlation**2 / 2) / (count - 3))
    return math.tanh(math.atanh(correlation) - reach), math.tanh(math.atanh(correlation) + reach)
