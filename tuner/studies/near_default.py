"""Random points near the default config, with which model-based samplers begin.

A default config is good in most of its values. A point drawn at random from the whole space is bad in at least one
of them almost surely, and says little about the others. Points that share about half of their values with the
default are better, and show what each change does. Hyperband gains as much from such a prior (Mallik et al.,
"PriorBand: Practical Hyperparameter Optimization in the Age of Deep Learning", NeurIPS 2023).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial

KEPT = 0.5
"""Probability that a parameter has the default config's value."""


class NearDefaultSampler(BaseSampler):
    """Each parameter has the default's value, or one from its whole range, by chance and independently.

    Args:
        default: The default config's parameters. One that is missing, since its conditions do not hold there, is
            drawn from its range.
        seed: Of the random numbers.
    """

    def __init__(self, default: Mapping[str, Any], seed: int) -> None:
        self._default = default
        self._chance = np.random.default_rng(seed)
        self._random = RandomSampler(seed=seed)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """None: parameters are independent."""
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """None: parameters are independent."""
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The default's value with the probability `KEPT`."""
        if param_name in self._default and self._chance.random() < KEPT:
            return self._default[param_name]
        return self._random.sample_independent(study, trial, param_name, param_distribution)
