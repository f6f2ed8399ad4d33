"""Random points near the default config, with which model-based samplers begin.

A default config is good in most of its values. A point drawn at random from the whole space is bad in at least one
of them almost surely, and says little about the others. Points that share about half of their values with the
default are better, and show what each change does. Hyperband gains as much from such a prior (Mallik et al.,
"PriorBand: Practical Hyperparameter Optimization in the Age of Deep Learning", NeurIPS 2023).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState

KEPT = 0.5
"""Probability that a parameter has the default config's value."""


class NearDefaultSampler(BaseSampler):
    """A model-based sampler that begins near the default config, until its model has enough trials to learn from.

    There each parameter has the default's value, or one from its whole range, by chance and independently. What counts
    is what the model can learn from: with many slots or an eager pruner, many trials may be begun before.

    Args:
        model: The sampler.
        learns_from: States of the trials that its model counts.
        startup: How many of them it needs.
        default: The default config's parameters. One that is missing, since its conditions do not hold there, is
            drawn from its range.
        seed: Of the random numbers.
    """

    def __init__(
        self,
        model: BaseSampler,
        learns_from: Sequence[TrialState],
        startup: int,
        default: Mapping[str, Any],
        seed: int,
    ) -> None:
        self.model = model
        self._learns_from = tuple(learns_from)
        self._startup = startup
        self._default = default
        self._chance = np.random.default_rng(seed)
        self._random = RandomSampler(seed=seed)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The model's; none before there is a model."""
        return {} if self._early(study) else self.model.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The model's; none before there is a model."""
        return {} if self._early(study) else self.model.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The model's; before, the default's value with the probability `KEPT`."""
        if not self._early(study):
            return self.model.sample_independent(study, trial, param_name, param_distribution)
        if param_name in self._default and self._chance.random() < KEPT:
            return self._default[param_name]
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """As the model does."""
        self.model.before_trial(study, trial)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """As the model does."""
        self.model.after_trial(study, trial, state, values)

    def _early(self, study: optuna.Study) -> bool:
        return len(study.get_trials(deepcopy=False, states=self._learns_from)) < self._startup
