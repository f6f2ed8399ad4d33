"""Pruning where there are several objectives: Optuna's pruners on one scalar that is kept beside them.

Optuna refuses intermediate values of multi-objective studies, and its samplers stumble over them. So the pruner is
shown the study with the direction and the curves of the scalar; what it notes of trials (the rungs of successive
halving) goes to the real study.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, cast

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from tuner.config.objective import Direction

Curves = Mapping[int, Mapping[int, float]]
"""Value after each epoch, by Optuna's id of the trial."""


def prune_by_scalar(study: optuna.Study, direction: Direction, trial_id: int, curves: Curves) -> bool:
    """What the study's pruner says about a trial by its last epoch.

    Args:
        study: With several objectives.
        direction: Of the scalar.
        trial_id: Optuna's id of the trial.
        curves: The scalar of all trials.
    """
    view = _ScalarView(study, direction, curves)
    trial = view.shown(study._storage.get_trial(trial_id))
    return study.pruner.prune(cast(optuna.Study, view), trial)


class _ScalarView:
    """What pruners look at of a study."""

    def __init__(self, study: optuna.Study, direction: Direction, curves: Curves) -> None:
        self.direction = StudyDirection.MAXIMIZE if direction == "maximize" else StudyDirection.MINIMIZE
        self._study = study
        self._storage = study._storage
        self._curves = curves

    def get_trials(self, deepcopy: bool = True, states: Sequence[TrialState] | None = None) -> list[FrozenTrial]:
        found = self._study.get_trials(deepcopy=deepcopy, states=None if states is None else tuple(states))
        return [self.shown(trial) for trial in found]

    def shown(self, trial: FrozenTrial) -> FrozenTrial:
        """A copy with the scalar's curve."""
        seen: Any = copy.copy(trial)
        seen.intermediate_values = dict(self._curves.get(trial._trial_id, {}))
        return cast(FrozenTrial, seen)
