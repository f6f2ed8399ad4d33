"""What trials would be worth after their last epoch, for a model that knows complete trials alone.

Optuna's Gaussian process learns from complete trials. Of a study that pauses or prunes these are few and late, while
every other trial has said something, too. So it is shown all of them as complete, each with an estimate: its last value
and what others gained from there on. A complete trial gains nothing more, however early its trainer ended, or where
another Optuna client has told its value alone. A trial without any value, and one that violates a constraint, is worth
as little as the worst.

Below the median only the order of values counts: how bad a bad trial is says nothing about where the good ones are,
while a Gaussian process that must explain a cliff sees no difference on the plateau. This is the half-rank warping of
Song et al., "The Vizier Gaussian Process Bandit Algorithm", 2024 (arXiv 2408.11527).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from tuner.studies.search.sampler_view import Sight

_ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


def last_values(curves: Sequence[Mapping[int, float]]) -> list[float | None]:
    """What trials would reach after the last epoch that any of them has.

    From the last epoch of each curve to the next at which another one ends, and so on to the last of all, the median
    gain of those curves is added that have both.

    Args:
        curves: The objective by epoch; empty where nothing is known.

    Returns:
        An estimate for each curve, its own last value where it is as long as any; None for an empty one.
    """
    ends = sorted({max(curve) for curve in curves if curve})
    to_come = dict.fromkeys(ends, 0.0)
    for end, following in reversed(list(pairwise(ends))):
        gains = [curve[following] - curve[end] for curve in curves if end in curve and following in curve]
        to_come[end] = to_come[following] + (float(np.median(gains)) if gains else 0.0)
    return [curve[max(curve)] + to_come[max(curve)] if curve else None for curve in curves]


def half_rank(values: np.ndarray) -> np.ndarray:
    """Values whose lower half are normal quantiles, as wide as the upper half; larger is better.

    Args:
        values: (n,) floats.

    Returns:
        (n,) float64 in the same order; those from the median on are unchanged. Of an even number of values the median
        is the larger one in the middle, so that nothing below it matters.
    """
    from scipy import special, stats  # here, since every worker would wait a second for them

    median = np.sort(values)[len(values) // 2]
    lower = values < median
    spread = np.sqrt(np.mean((values[~lower] - median) ** 2))
    quantiles = special.ndtri((stats.rankdata(values) - 0.5) / len(values))
    return np.where(lower, median + spread * quantiles, values)


def worth(trials: Sequence[FrozenTrial], direction: StudyDirection) -> dict[int, float]:
    """What the trials that have ended are worth, by their numbers; nothing where none of them has a value.

    Args:
        trials: Of a study with one objective.
        direction: Of the objective.
    """
    sign = 1.0 if direction == StudyDirection.MAXIMIZE else -1.0
    ended = [trial for trial in trials if trial.state in _ENDED]
    last = max((epoch for trial in ended for epoch in trial.intermediate_values), default=1)
    estimates = last_values([_curve(trial, sign, last) for trial in ended])
    known = [value for value in estimates if value is not None]
    if not known:
        return {}
    worst = min(known)
    values = [
        worst if value is None or _violates(trial) else value for trial, value in zip(ended, estimates, strict=True)
    ]
    warped = half_rank(np.array(values))
    return {trial.number: float(sign * value) for trial, value in zip(ended, warped, strict=True)}


def as_complete(trials: Sequence[FrozenTrial], direction: StudyDirection) -> list[FrozenTrial]:
    """The trials, with those that have ended looking complete, by what they would be worth.

    Args:
        trials: Of a study with one objective; those that run or failed stay as they are.
        direction: Of the objective.
    """
    values = worth(trials, direction)
    shown = (trial for trial in trials if trial.number in values or trial.state not in _ENDED)
    return [_complete(trial, values[trial.number]) if trial.number in values else trial for trial in shown]


class ForesightSampler(BaseSampler):
    """A sampler that sees all trials that have ended as complete ones.

    With several objectives, whose trials report nothing before they end, it sees them as they are.

    Args:
        model: The sampler.
    """

    def __init__(self, model: BaseSampler) -> None:
        self.model = model

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The model's."""
        return self.model.infer_relative_search_space(_foreseen(study), trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The model's."""
        return self.model.sample_relative(_foreseen(study), trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The model's."""
        return self.model.sample_independent(_foreseen(study), trial, param_name, param_distribution)


def _foreseen(study: optuna.Study) -> optuna.Study:
    if len(study.directions) > 1:
        return study
    return Sight(study, lambda trials: as_complete(trials, study.direction))


def _curve(trial: FrozenTrial, sign: float, last: int) -> dict[int, float]:
    """What a trial has reported, larger being better; without NaN and infinity.

    The value of a complete one is that after the last epoch of all.
    """
    curve = {epoch: sign * value for epoch, value in trial.intermediate_values.items() if np.isfinite(value)}
    if trial.state == TrialState.COMPLETE and trial.value is not None:
        curve[last] = sign * trial.value
    return curve


def _violates(trial: FrozenTrial) -> bool:
    return any(amount > 0 for amount in trial.constraints.values())


def _complete(trial: FrozenTrial, value: float) -> FrozenTrial:
    """A copy that is complete with a value, and without constraints, which the value stands for."""
    complete = copy.copy(trial)
    complete.state, complete.values, complete.system_attrs = TrialState.COMPLETE, [value], {}
    return complete
