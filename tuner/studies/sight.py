"""What samplers see of a study whose pruner pauses trials.

Optuna has no state for a paused trial: it stays RUNNING there until it is told for good, once, as complete or
pruned. But TPE takes whatever runs for a bad trial (its constant liar), so it would flee from the best paused ones.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Container

import optuna
from optuna.trial import FrozenTrial, TrialState


class Sight(optuna.Study):
    """A study in which some running trials look pruned, with what they have reported so far.

    So a sampler learns from a paused trial as from a pruned one, and sees each trial once.

    Args:
        study: The study; trials that are asked for here are its own.
        paused: Optuna's ids of the trials that are paused.
    """

    def __init__(self, study: optuna.Study, paused: Collection[int]) -> None:
        super().__init__(study.study_name, study._storage, study.sampler, study.pruner)
        self._paused = frozenset(paused)

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        # The one method through which samplers read trials; the public `get_trials` calls it, too.
        seen = [self._seen(trial) for trial in super()._get_trials(deepcopy, None, use_cache)]
        return seen if states is None else [trial for trial in seen if trial.state in states]

    def _seen(self, trial: FrozenTrial) -> FrozenTrial:
        if trial._trial_id not in self._paused or trial.state != TrialState.RUNNING:
            return trial
        pruned = copy.copy(trial)
        pruned.state = TrialState.PRUNED
        return pruned
