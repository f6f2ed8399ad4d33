"""What samplers see of a study whose pruner pauses trials.

Optuna has no state for a paused trial: it stays RUNNING there until it is told for good, once, as complete or
pruned. But TPE takes whatever runs for a bad trial (its constant liar), so it would flee from the best paused ones.
Shown as pruned, with what they have reported so far, they teach it like pruned ones, and each trial is seen once.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Container, Mapping, Sequence

import optuna
from optuna.trial import FrozenTrial, TrialState


def as_pruned(trials: Sequence[FrozenTrial], paused: Collection[int]) -> list[FrozenTrial]:
    """The trials, with those that are paused (by Optuna's ids) looking pruned."""
    return [_pruned(trial) if trial._trial_id in paused else trial for trial in trials]


def with_constraints(trials: Sequence[FrozenTrial], violations: Mapping[int, Mapping[str, float]]) -> list[FrozenTrial]:
    """The trials, some of them with what Optuna is told for good at their end.

    Args:
        trials: In any state.
        violations: By how much some of them, by Optuna's ids, violate each constraint.
    """
    return [_constrained(trial, violations.get(trial._trial_id, {})) for trial in trials]


class Sight(optuna.Study):
    """A study whose trials look different to samplers.

    Args:
        study: The study; trials that are asked for here are its own.
        look: Makes, from all its trials, what is seen of them.
    """

    def __init__(self, study: optuna.Study, look: Callable[[Sequence[FrozenTrial]], list[FrozenTrial]]) -> None:
        super().__init__(study.study_name, study._storage, study.sampler, study.pruner)
        self._study, self._look = study, look

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        # The one method through which samplers read trials; the public `get_trials` calls it, too.
        seen = self._look(self._study._get_trials(deepcopy, None, use_cache))
        return seen if states is None else [trial for trial in seen if trial.state in states]


def _constrained(trial: FrozenTrial, amounts: Mapping[str, float]) -> FrozenTrial:
    if not amounts:
        return trial
    constrained = copy.copy(trial)
    constrained.system_attrs = dict(trial.system_attrs)
    for name, amount in amounts.items():
        constrained.set_constraint(name, amount)
    return constrained


def _pruned(trial: FrozenTrial) -> FrozenTrial:
    pruned = copy.copy(trial)
    pruned.state = TrialState.PRUNED
    return pruned
