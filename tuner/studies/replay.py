"""Samplers and pruners run again on the learning curves that a study has stored.

What is replayed is what is known: a trial that the study itself pruned goes as far as its curve, and no sampler can
draw a config that was not trained. So a sampler's proposal becomes the nearest stored trial that is still unused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, RandomSampler

from tuner.config.errors import StudyError
from tuner.config.study import PrunerSpec, SamplerSpec
from tuner.config.trial import TrialConfig
from tuner.space.fields import InfeasibleConfig
from tuner.space.space import SearchSpace
from tuner.studies.correlation import TRUSTED, correlation_interval, rank_correlations, trusted_from
from tuner.studies.pruners import build_pruner
from tuner.studies.records import TrialRecord, TrialState
from tuner.studies.samplers import build_sampler
from tuner.studies.simulate import Draw, Simulation, simulate
from tuner.studies.study import Study

GOOD = 3
"""So many of the best complete trials are the good ones, though not more than half of all complete ones."""
_AS_RUN = "as run"


@dataclass(frozen=True)
class StoredCurve:
    """A trial with what is known of its curve.

    Attributes:
        number: Of the trial.
        params: What the sampler chose.
        values: The objective after each epoch, from the first; larger is better.
        complete: Whether that are all epochs.
    """

    number: int
    params: dict[str, Any]
    values: tuple[float, ...]
    complete: bool


@dataclass(frozen=True)
class Outcome:
    """What one sampler with one pruner would have done; means where it was replayed several times.

    Attributes:
        sampler: Its name, or "as run": the order in which the study ran its trials.
        pruner: The pruner.
        replays: How often it was replayed, each with another seed.
        epochs: Epochs trained.
        saved: Share of the known epochs that were not trained.
        killed: For each good trial, the share of replays in which it was stopped or paused for good.
        best: Best value of a trial that was trained to its last epoch; None where none was.
        to_best: Epochs until the study's best trial was complete, over the replays where it was; None where
            it never was.
    """

    sampler: str
    pruner: PrunerSpec
    replays: int
    epochs: float
    saved: float
    killed: dict[int, float]
    best: float | None
    to_best: float | None


@dataclass(frozen=True)
class Replay:
    """What a study's stored curves say.

    Attributes:
        epochs: Full length of a trial.
        curves: Trials with at least one epoch.
        complete: How many of them have all epochs.
        correlations: For each epoch, Spearman's rank correlation with the last over the complete trials; None
            where all values are equal.
        first_rung: The epoch from which it stays at `TRUSTED` or above, which is a fair first rung.
        doubt: Between what (95 %) a correlation of `TRUSTED` may lie in truth, measured on so few trials; None where
            they are too few to say.
        outcomes: Of each sampler with each pruner.
    """

    epochs: int
    curves: int
    complete: int
    correlations: list[float | None]
    first_rung: int
    doubt: tuple[float, float] | None
    outcomes: list[Outcome]


def replay_study(
    study: Study, pruners: Sequence[PrunerSpec], samplers: Sequence[SamplerSpec] = (), *, seeds: int = 20
) -> Replay:
    """Replay a study.

    Args:
        study: It needs two complete trials at least.
        pruners: What to try.
        samplers: What to try beside the order in which the trials were run.
        seeds: Replays of each sampler with each pruner.

    Raises:
        StudyError: Fewer than two trials are complete, or the trainer gave the objective after the last epoch only.
        ConfigError: A pruner or sampler has an option that it has no use for, or the first rung lies beyond the end.
    """
    objective = study.spec.objective
    sign = 1 if objective.direction == "maximize" else -1
    trials = study.trials()
    curves = stored_curves(trials, study.base.epochs, sign)
    complete = [curve for curve in curves if curve.complete]
    if not complete and any(trial.state is TrialState.COMPLETE for trial in trials):
        raise StudyError(
            f"study {study.name!r} has no curves to replay: its trainer gave {objective.metric} after the last epoch "
            "of a trial only"
        )
    if len(complete) < 2:
        raise StudyError(
            f"study {study.name!r} has {len(complete)} complete trials; a replay needs two at least",
            hint="Let it run on: `tuner run` with its study file.",
        )
    for pruner in pruners:
        build_pruner(pruner, study.base.epochs)
    correlations = rank_correlations([curve.values for curve in complete])
    outcomes = [_outcome(_AS_RUN, pruner, curves, study.base.epochs, [_in_order]) for pruner in pruners]
    for spec in samplers:
        for pruner in pruners:
            tries = [_sampling(spec, study.space, study.base, seed) for seed in range(seeds)]
            outcomes.append(_outcome(spec.name, pruner, curves, study.base.epochs, tries))
    if sign < 0:
        outcomes = [replace(one, best=None if one.best is None else -one.best) for one in outcomes]
    return Replay(
        epochs=study.base.epochs,
        curves=len(curves),
        complete=len(complete),
        correlations=correlations,
        first_rung=trusted_from(correlations),
        doubt=correlation_interval(TRUSTED, len(complete)),
        outcomes=outcomes,
    )


def stored_curves(trials: Sequence[TrialRecord], epochs: int, sign: int) -> list[StoredCurve]:
    """The curves of the trials that have one, as far as each epoch's value is known; each value times `sign`."""
    found = []
    for trial in trials:
        known = {epoch.epoch: epoch.value for epoch in trial.epochs}
        values: list[float] = []
        for epoch in count(1):
            value = known.get(epoch)
            if value is None:
                break
            values.append(sign * value)
        if values:
            complete = trial.state is TrialState.COMPLETE and len(values) == epochs
            found.append(StoredCurve(trial.number, trial.params, tuple(values), complete))
    return found


_Order = Callable[[list[StoredCurve]], tuple[Draw, Callable[[int], BaseSampler], list[int]]]
"""Makes, from the curves, where trials come from, the sampler, and the list that tells which curve each trial got."""


def _outcome(
    sampler: str, pruner: PrunerSpec, curves: list[StoredCurve], epochs: int, tries: Sequence[_Order]
) -> Outcome:
    known = sum(len(curve.values) for curve in curves)
    ranked = sorted((curve for curve in curves if curve.complete), key=lambda c: (-c.values[-1], c.number))
    good = [curve.number for curve in ranked[: min(GOOD, max(1, len(ranked) // 2))]]
    spent, bests, to_best = [], [], []
    stopped = dict.fromkeys(good, 0)
    for make in tries:
        draw, build, drawn = make(curves)
        done = simulate(draw, build, pruner, epochs=epochs)
        spent.append(len(done.order))
        finished = {curves[at].number: trial for at, trial in zip(drawn, done.trials, strict=True) if not trial.stopped}
        for number in good:
            stopped[number] += number not in finished
        bests += [curve.values[-1] for curve in ranked if curve.number in finished][:1]
        if good[0] in finished:
            to_best.append(_epochs_until_complete(done, [curves[at].number for at in drawn].index(good[0])))
    return Outcome(
        sampler=sampler,
        pruner=pruner,
        replays=len(tries),
        epochs=float(np.mean(spent)),
        saved=1 - float(np.mean(spent)) / known,
        killed={number: times / len(tries) for number, times in stopped.items()},
        best=float(np.mean(bests)) if bests else None,
        to_best=float(np.mean(to_best)) if to_best else None,
    )


def _epochs_until_complete(done: Simulation, index: int) -> int:
    return len(done.order) - done.order[::-1].index(index)


def _in_order(curves: list[StoredCurve]) -> tuple[Draw, Callable[[int], BaseSampler], list[int]]:
    drawn: list[int] = []

    def draw(trial: optuna.Trial) -> tuple[float, ...] | None:
        if len(drawn) == len(curves):
            return None
        drawn.append(len(drawn))
        return curves[drawn[-1]].values

    return draw, lambda ask: RandomSampler(seed=ask), drawn


def _sampling(spec: SamplerSpec, space: SearchSpace, base: TrialConfig, seed: int) -> _Order:
    seeded = spec.model_copy(update={"seed": seed})
    distributions = space.distributions()
    default = space.params_of(base)

    def make(curves: list[StoredCurve]) -> tuple[Draw, Callable[[int], BaseSampler], list[int]]:
        drawn: list[int] = []

        def draw(trial: optuna.Trial) -> tuple[float, ...] | None:
            left = [at for at in range(len(curves)) if at not in drawn]
            if not left:
                return None
            with suppress(InfeasibleConfig):  # the nearest stored trial is feasible
                space.suggest(trial, base)
            at = min(left, key=lambda i: _distance(trial.params, curves[i].params, distributions)) if drawn else 0
            drawn.append(at)
            _become(trial, curves[at], distributions)
            return curves[at].values

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
