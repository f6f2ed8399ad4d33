"""The learning curves that a study has stored, and the orders in which a replay may draw them.

No sampler can draw a config that was not trained, so a proposal becomes the nearest stored trial that is still unused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, RandomSampler

from tuner.config.study import SamplerSpec
from tuner.config.trial import TrialConfig
from tuner.space.fields import InfeasibleConfig
from tuner.space.space import SearchSpace
from tuner.studies.replay.simulate import Curve, Draw
from tuner.studies.search.objective import violations
from tuner.studies.search.samplers import build_sampler
from tuner.studies.state.control import BY_HAND
from tuner.studies.state.records import GOING, TrialRecord, TrialState
from tuner.studies.trials.tell import VIOLATED


@dataclass(frozen=True, kw_only=True)
class StoredCurve(Curve):
    """A trial with what is known of its curve.

    Attributes:
        number: Of the trial.
        params: What the sampler chose.
        complete: Whether that are all epochs.
        is_default: Whether it is the default config's.
    """

    number: int
    params: dict[str, Any]
    complete: bool
    is_default: bool

    @property
    def feasible(self) -> bool:
        """Whether it is complete and keeps all constraints."""
        return self.complete and not self.breaks(len(self.values))


def stored_curves(
    trials: Sequence[TrialRecord], epochs: int, sign: int, constraints: Sequence[str] = ()
) -> list[StoredCurve]:
    """The curves of the trials that have one and do not run, as far as each epoch's value is known, times `sign`.

    The default config's is first, where it has one: it was the first to run, whatever number it has.
    """
    found = []
    for trial in trials:
        if trial.state in GOING:  # where it ends is not known
            continue
        known = {epoch.epoch: epoch for epoch in trial.epochs}
        values: list[float] = []
        for epoch in count(1):
            if epoch not in known or (value := known[epoch].value) is None:
                break
            values.append(sign * value)
        if values:
            curve = StoredCurve(
                tuple(values),
                tuple(violations(constraints, known[epoch + 1].metrics) for epoch in range(len(values))),
                _failure(trial),
                number=trial.number,
                params=trial.params,
                complete=trial.state is TrialState.COMPLETE and len(values) == epochs,
                is_default=trial.is_default,
            )
            found.append(curve)
    return sorted(found, key=lambda curve: not curve.is_default)


def _failure(trial: TrialRecord) -> dict[str, float] | None:
    """See `Curve.failure`."""
    by_hand = trial.state is TrialState.PRUNED and (trial.reason or "").startswith(BY_HAND)
    if trial.kind is None and not by_hand:
        return None
    return {VIOLATED[trial.kind]: 1.0} if trial.kind in VIOLATED else {}


Order = Callable[[list[StoredCurve]], tuple[Draw, Callable[[int], BaseSampler], list[int]]]
"""Makes, from the curves, where trials come from, the sampler, and the list that tells which curve each trial got."""


def in_order(curves: list[StoredCurve]) -> tuple[Draw, Callable[[int], BaseSampler], list[int]]:
    """The order in which the study ran its trials."""
    drawn: list[int] = []

    def draw(trial: optuna.Trial) -> StoredCurve | None:
        if len(drawn) == len(curves):
            return None
        drawn.append(len(drawn))
        return curves[drawn[-1]]

    return draw, lambda ask: RandomSampler(seed=ask), drawn


def sampled(spec: SamplerSpec, space: SearchSpace, base: TrialConfig, seed: int) -> Order:
    """The order in which a sampler with this seed draws trials; the default config, if it has a curve, first."""
    seeded = spec.model_copy(update={"seed": seed})
    distributions = space.distributions()
    default = space.params_of(base)

    def make(curves: list[StoredCurve]) -> tuple[Draw, Callable[[int], BaseSampler], list[int]]:
        drawn: list[int] = []

        def draw(trial: optuna.Trial) -> StoredCurve | None:
            left = [at for at in range(len(curves)) if at not in drawn]
            if not left:
                return None
            with suppress(InfeasibleConfig):  # the nearest stored trial is feasible
                space.suggest(trial, base)
            if not drawn and curves[0].is_default:
                at = 0
            else:
                at = min(left, key=lambda i: _distance(trial.params, curves[i].params, distributions))
            drawn.append(at)
            _become(trial, curves[at], distributions)
            return curves[at]

        return draw, lambda ask: build_sampler(seeded, space, ask, default), drawn

    return make


def _become(trial: optuna.Trial, curve: StoredCurve, distributions: dict[str, BaseDistribution]) -> None:
    """Give a trial the parameters of a stored one, and none that it was proposed with beside them."""
    storage = trial.study._storage
    proposed = storage.get_trial(trial._trial_id)  # in memory, where it is the trial itself
    proposed.params, proposed.distributions = {}, {}
    for name, value in curve.params.items():
        if name in distributions:
            internal = distributions[name].to_internal_repr(value)
            storage.set_trial_param(trial._trial_id, name, internal, distributions[name])


def _distance(a: dict[str, Any], b: dict[str, Any], distributions: dict[str, BaseDistribution]) -> float:
    """Squared distance of two configs; each dimension counts up to 1, also where only one of them has it."""
    return sum(
        _difference(a[name], b[name], distribution) ** 2 if name in a and name in b else float(name in a or name in b)
        for name, distribution in distributions.items()
    )


def _difference(a: Any, b: Any, distribution: Any) -> float:
    if isinstance(distribution, CategoricalDistribution):
        return float(a != b)
    if distribution.log:
        return float(math.log(a / b) / math.log(distribution.high / distribution.low))
    return float((a - b) / (distribution.high - distribution.low))
