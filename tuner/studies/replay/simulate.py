"""A study over learning curves that are known: samplers and pruners at work, without any training.

One worker, one trial at a time, with the same samplers, pruners and rule of promotion as a real study.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import optuna
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from tuner.config.study import PrunerSpec
from tuner.studies.search.promotion import Entrant, goes_on, next_promotion
from tuner.studies.search.pruners import build_pruner, promotion_rungs
from tuner.studies.search.quiet_optuna import quiet
from tuner.studies.search.sampler_view import Sight, as_pruned, with_constraints


@dataclass(frozen=True)
class Curve:
    """What training a trial would bring; a curve that ends early ends its trial.

    Attributes:
        values: The objective after each epoch, larger is better.
        violations: By how much each constraint is violated after each epoch, as far as it is known; empty where there
            are no constraints.
        failure: What the trial violates, beside these, since it ended by itself where its curve does; None where it
            did not: it is complete, or the study would not train it further.
    """

    values: Sequence[float]
    violations: Sequence[Mapping[str, float]] = ()
    failure: Mapping[str, float] | None = None

    def violated(self, epoch: int) -> Mapping[str, float]:
        """By how much each constraint is violated after an epoch, from 1, as far as it is known."""
        return self.violations[epoch - 1] if self.violations else {}

    def breaks(self, epoch: int) -> bool:
        """Whether a constraint is known to be broken after an epoch, from 1."""
        return any(amount > 0 for amount in self.violated(epoch).values())


Draw = Callable[[optuna.Trial], Curve | None]
"""Lets a new trial choose its parameters, and gives its curve. None: there are no more trials."""


@dataclass
class SimulatedTrial:
    """A trial of a simulation.

    Attributes:
        curve: All that is known of it.
        epochs: Epochs that it was trained for.
        paused: Whether it waits at a rung.
        reached: Its values at the rungs, by their epochs.
        is_default: Whether it counts for the default config, which no pruner ends.
        failed: Whether it has ended by itself.
    """

    trial: optuna.Trial
    curve: Curve
    epochs: int = 0
    paused: bool = False
    reached: dict[int, float] = field(default_factory=dict)
    is_default: bool = False
    failed: bool = False

    @property
    def stopped(self) -> bool:
        """Whether it ended before its curve does."""
        return self.epochs < len(self.curve.values)


@dataclass(frozen=True)
class Simulation:
    """What a study would have done.

    Attributes:
        trials: In the order in which they were begun.
        order: For each epoch trained, in time, the index of its trial.
    """

    trials: list[SimulatedTrial]
    order: list[int]


def simulate(
    draw: Draw,
    sampler: Callable[[int], BaseSampler],
    pruner: PrunerSpec,
    *,
    epochs: int,
    budget: int | None = None,
    default: bool = True,
) -> Simulation:
    """Run a study over known curves.

    Args:
        draw: Where trials come from.
        sampler: The sampler of a trial, by how many were asked for before.
        pruner: The pruner.
        epochs: Full length of a trial.
        budget: Epochs after which the study ends; None: when there are no more trials.
        default: Whether the first trial counts for the default config of a real study, which is trained to its last
            epoch (decision 6); else none does.
    """
    with quiet():
        study = optuna.create_study(direction="maximize", pruner=build_pruner(pruner, epochs), study_name="replay")
    rungs, factor = promotion_rungs(pruner, epochs)
    done = Simulation([], [])
    more = True
    while budget is None or len(done.order) < budget:
        entrants = _entrants(done.trials, epochs) if rungs else []
        index = next_promotion(entrants, rungs, factor, more=more, closing=not more)
        if index is None:
            if not more:
                break
            begun = _begin(study, draw, sampler, done.trials)
            if begun is None:
                more = False
                continue
            begun.is_default = default and not done.trials
            done.trials.append(begun)
            index = len(done.trials) - 1
        _train(study, done, index, rungs, factor, epochs, budget)
    return done


def _begin(
    study: optuna.Study, draw: Draw, sampler: Callable[[int], BaseSampler], trials: list[SimulatedTrial]
) -> SimulatedTrial | None:
    with quiet():
        study.sampler = sampler(len(trials))
        paused = {trial.trial._trial_id: trial.curve.violated(trial.epochs) for trial in trials if trial.paused}

        def look(known: Sequence[FrozenTrial]) -> list[FrozenTrial]:
            return with_constraints(as_pruned(known, paused), paused)

        trial = (Sight(study, look) if paused else study).ask()
        curve = draw(trial)
    if curve is None:
        study.tell(trial, state=TrialState.FAIL)
        return None
    return SimulatedTrial(trial, curve)


def _train(
    study: optuna.Study,
    done: Simulation,
    index: int,
    rungs: Sequence[int],
    factor: int,
    epochs: int,
    budget: int | None,
) -> None:
    """Train one trial until it ends, pauses or the budget is spent."""
    one = done.trials[index]
    one.paused = False
    while one.epochs < len(one.curve.values):
        if budget is not None and len(done.order) >= budget:
            return
        value = float(one.curve.values[one.epochs])
        one.epochs += 1
        done.order.append(index)
        one.trial.report(value, one.epochs)
        if one.epochs == epochs:
            _tell(study, one, value)
            return
        pruned = one.trial.should_prune() and not one.is_default
        if one.epochs in rungs:
            one.reached[one.epochs] = value
            if not goes_on(_entrants(done.trials, epochs), index, one.epochs, factor):
                one.paused = True
                return
        if pruned:
            break
    _tell(study, one, None)


def _tell(study: optuna.Study, one: SimulatedTrial, value: float | None) -> None:
    """Tell Optuna how a trial ended, as `tuner.studies.trials.tell` does: complete with a value, or pruned."""
    failure = None if one.stopped else one.curve.failure
    one.failed = failure is not None
    for name, amount in {**one.curve.violated(one.epochs), **(failure or {})}.items():
        one.trial.set_constraint(name, amount)
    study.tell(one.trial, value, state=TrialState.PRUNED if value is None else TrialState.COMPLETE)


def _entrants(trials: Sequence[SimulatedTrial], epochs: int) -> list[Entrant]:
    return [
        Entrant(
            number,
            trial.reached,
            _standing(trial, epochs),
            is_default=trial.is_default,
            broken=frozenset(rung for rung in trial.reached if trial.curve.breaks(rung)),
        )
        for number, trial in enumerate(trials)
    ]


def _standing(trial: SimulatedTrial, epochs: int) -> Literal["paused", "complete", "left", "stopped"]:
    """The state of a trial that is not trained now, as `Entrant` has it.

    One that the study did not train beyond a rung keeps its place there: others would not have had it.
    """
    if trial.paused:
        return "paused"
    if trial.epochs == epochs and not trial.curve.breaks(epochs):
        return "complete"
    return "left" if trial.failed and trial.epochs in trial.reached else "stopped"
