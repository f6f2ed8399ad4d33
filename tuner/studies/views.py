"""Optuna's storage as the samplers and pruners of a worker see it: the same answers for fewer questions.

Samplers ask for all trials for each dimension anew, and pruners read a trial anew at each epoch. Over a network,
with thousands of trials, that is slow, and what a worker reads so is mostly what it wrote or read just before.
"""

from __future__ import annotations

import copy
from collections.abc import Container, Sequence
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

SEEN_TRIALS = 1000
"""So many trials a sampler sees at most."""
_BEST_SEEN = 100


def seen(trials: Sequence[FrozenTrial], rising: bool | None) -> list[FrozenTrial]:
    """What a sampler sees of very many trials, in their order: those not finished, the best hundred, and the latest.

    TPE models at most 25 trials as good, and weighs the others the less the older they are; what is left out
    changes little, while its time grows with the number of trials for each dimension.

    Args:
        trials: All of a study.
        rising: Whether larger values are better; None with several objectives, where no hundred are the best.
    """
    if len(trials) <= SEEN_TRIALS:
        return list(trials)
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    best = [] if rising is None else sorted(complete, key=lambda t: _rank(t, rising))[:_BEST_SEEN]
    kept = {trial.number for trial in best} | {trial.number for trial in trials if not trial.state.is_finished()}
    for trial in reversed(trials):
        if len(kept) >= SEEN_TRIALS:
            break
        kept.add(trial.number)
    return [trial for trial in trials if trial.number in kept]


def _rank(trial: FrozenTrial, rising: bool) -> tuple[float, int]:
    value = trial.values[0]
    return (-value if rising else value), trial.number


def _forwarded(name: str) -> Any:
    def method(self: _Forwarding, *args: Any, **kwargs: Any) -> Any:
        return getattr(self._backend, name)(*args, **kwargs)

    return method


class _Forwarding(BaseStorage):
    """Does nothing itself."""

    def __init__(self, backend: BaseStorage) -> None:
        self._backend = backend

    create_new_study = _forwarded("create_new_study")
    delete_study = _forwarded("delete_study")
    set_study_user_attr = _forwarded("set_study_user_attr")
    set_study_system_attr = _forwarded("set_study_system_attr")
    get_study_id_from_name = _forwarded("get_study_id_from_name")
    get_study_name_from_id = _forwarded("get_study_name_from_id")
    get_study_directions = _forwarded("get_study_directions")
    get_study_user_attrs = _forwarded("get_study_user_attrs")
    get_study_system_attrs = _forwarded("get_study_system_attrs")
    get_all_studies = _forwarded("get_all_studies")
    create_new_trial = _forwarded("create_new_trial")
    set_trial_param = _forwarded("set_trial_param")
    set_trial_state_values = _forwarded("set_trial_state_values")
    set_trial_intermediate_value = _forwarded("set_trial_intermediate_value")
    set_trial_user_attr = _forwarded("set_trial_user_attr")
    set_trial_system_attr = _forwarded("set_trial_system_attr")
    get_trial = _forwarded("get_trial")
    get_all_trials = _forwarded("get_all_trials")
    remove_session = _forwarded("remove_session")


class HeldTrials(_Forwarding):
    """Storage that remembers the trials that this process runs.

    Nobody else writes to a trial, so what was read of it once, and written since, is what the database has.
    """

    def __init__(self, backend: BaseStorage) -> None:
        super().__init__(backend)
        self._held: dict[int, FrozenTrial] = {}

    def hold(self, trial_id: int) -> FrozenTrial:
        """The trial as it is now; read from the database where it is not held yet."""
        if trial_id not in self._held:
            self._held[trial_id] = copy.deepcopy(self._backend.get_trial(trial_id))
        return self._held[trial_id]

    def drop(self, trial_id: int) -> None:
        """Forget a trial: others may write to it now."""
        self._held.pop(trial_id, None)

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """From memory where it is held."""
        return self._held.get(trial_id) or self._backend.get_trial(trial_id)

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        """In the database and in memory."""
        self._backend.set_trial_intermediate_value(trial_id, step, intermediate_value)
        if trial_id in self._held:
            self._held[trial_id].intermediate_values[step] = intermediate_value

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """In the database and in memory."""
        self._backend.set_trial_system_attr(trial_id, key, value)
        if trial_id in self._held:
            self._held[trial_id].system_attrs[key] = value


class Drafting(_Forwarding):
    """Storage in which one new trial is sampled in memory, among trials that stand still.

    Args:
        backend: Where the trial is kept in the end.
        study_id: Optuna's id of the study.
        trials: What the sampler sees of it, in order.
        number: What the new trial will have; nobody else may make one meanwhile.
    """

    def __init__(self, backend: BaseStorage, study_id: int, trials: Sequence[FrozenTrial], number: int) -> None:
        super().__init__(backend)
        self._study_id = study_id
        self._trials = trials
        self._number = number
        self._draft: list[FrozenTrial] = []

    def keep(self) -> FrozenTrial:
        """Write the new trial, at once; returns it with its id."""
        kept = copy.copy(self._draft[0])
        kept._trial_id = self._backend.create_new_trial(self._study_id, template_trial=kept)
        return kept

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Begin the new trial."""
        draft = template_trial or create_trial(state=TrialState.RUNNING, params={}, distributions={})
        draft.number = self._number
        self._draft = [draft]
        return draft._trial_id

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Of the new trial, from memory."""
        return next((draft for draft in self._draft if draft._trial_id == trial_id), None) or self._backend.get_trial(
            trial_id
        )

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """The trials that stand still, and the new one."""
        found = [trial for trial in (*self._trials, *self._draft) if states is None or trial.state in states]
        return copy.deepcopy(found) if deepcopy else found

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        """In memory."""
        self._draft[0].params[param_name] = distribution.to_external_repr(param_value_internal)
        self._draft[0].distributions[param_name] = distribution

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """In memory."""
        self._draft[0].user_attrs[key] = value

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """In memory."""
        self._draft[0].system_attrs[key] = value
