"""A study's trials as this process has read them, and Optuna's storage as samplers and pruners see it.

Samplers ask for all trials for each dimension anew, and pruners read trials at each epoch. Over a network, with
thousands of trials, that is slow. So trials that have ended are read once, only as far as they are looked at, and
the one trial that is sampled, judged or told is changed in memory and written in one transaction of ours.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Container, Iterable, Sequence
from datetime import datetime
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.orm import Session

from tuner.storage import optuna_rows

SEEN_TRIALS = 1000
"""So many trials a sampler sees at most."""
_BEST_SEEN = 100

Part = Literal["params", "system_attrs", "intermediate_values"]
"""What can be read of trials, beside their number, state and values."""
_FILL: dict[Part, Callable[[Session, Iterable[FrozenTrial]], None]] = {
    "params": optuna_rows.fill_params,
    "system_attrs": optuna_rows.fill_system_attrs,
    "intermediate_values": optuna_rows.fill_intermediate_values,
}


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


class StudyTrials:
    """The trials of one study in Optuna's tables, as far as this process has looked at them.

    What is known of a trial that has ended is never read again. The study is locked while one
    is made (see `optuna_writing.add_trial`), so none with a smaller id appears later.

    Args:
        study_id: Optuna's id of the study.
    """

    def __init__(self, study_id: int) -> None:
        self._study_id = study_id
        self._trials: dict[int, FrozenTrial] = {}
        self._open: set[int] = set()
        self._last_ended = -1
        self._known: dict[Part, set[int]] = {part: set() for part in _FILL}

    def read(self, session: Session) -> list[FrozenTrial]:
        """Number, state and values of all trials now, in order; the rest may be missing until it is filled in."""
        news = list(optuna_rows.read_heads(session, self._study_id, after=self._last_ended, among=self._open))
        for trial in news:
            self._trials[trial._trial_id] = trial
            if trial.state.is_finished():
                self._open.discard(trial._trial_id)
                self._last_ended = max(self._last_ended, trial._trial_id)
            else:
                self._open.add(trial._trial_id)
        return sorted(self._trials.values(), key=lambda trial: trial.number)

    def fill(self, session: Session, trials: Iterable[FrozenTrial], *parts: Part) -> None:
        """Read parts of trials that `read` gave, where they are not known yet."""
        chosen = list(trials)
        for part in parts:
            known = self._known[part]
            missing = [trial for trial in chosen if trial._trial_id not in known]
            _FILL[part](session, missing)
            known.update(trial._trial_id for trial in missing if trial._trial_id not in self._open)


def changeable(trial: FrozenTrial) -> FrozenTrial:
    """A copy of a trial that can be changed without the trial."""
    changed = copy.copy(trial)
    changed.params, changed.distributions = dict(trial.params), dict(trial.distributions)
    changed.user_attrs, changed.intermediate_values = dict(trial.user_attrs), dict(trial.intermediate_values)
    changed.system_attrs = dict(trial.system_attrs)
    return changed


def _refuse(*_: Any, **__: Any) -> Any:
    raise NotImplementedError("a draft is one trial")


_elsewhere: Any = _refuse


class Drafting(BaseStorage):
    """Storage in which one trial is changed in memory, among trials that stand still. It writes nothing.

    Args:
        study: Whose trials they are.
        trials: The others; called whenever they are asked for.
        draft: The trial that is changed, which must be a copy (see `changeable`); None where it is still to be made.
        number: What a trial will have that is still to be made; nobody else may make one meanwhile.
        directions: Of the study as it is seen; by default its own.

    Attributes:
        draft: The trial as it is now; None before it is made.
    """

    def __init__(
        self,
        study: optuna.Study,
        trials: Callable[[], Sequence[FrozenTrial]] = tuple,
        *,
        draft: FrozenTrial | None = None,
        number: int = 0,
        directions: Sequence[StudyDirection] | None = None,
    ) -> None:
        self.draft = draft
        self._study = study
        self._others = trials
        self._number = number
        self._directions = list(directions or study.directions)

    # The study

    def get_study_id_from_name(self, study_name: str) -> int:
        """Of the one study."""
        return self._study._study_id

    def get_study_name_from_id(self, study_id: int) -> str:
        """Of the one study."""
        return self._study.study_name

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """As the study is seen."""
        return self._directions

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """From the database."""
        return self._study.user_attrs

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """From the database."""
        return self._study._storage.get_study_system_attrs(study_id)

    # Trials

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Begin the new trial."""
        assert self.draft is None
        self.draft = template_trial or create_trial(state=TrialState.RUNNING, params={}, distributions={})
        self.draft.number = self._number
        return self.draft._trial_id

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """The one that is changed."""
        if self.draft is None or self.draft._trial_id != trial_id:
            raise KeyError(f"trial {trial_id} is not the one that is changed here")
        return self.draft

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """The trials that stand still, and the one that is changed."""
        mine = [] if self.draft is None else [self.draft]
        others = [trial for trial in self._others() if not mine or trial._trial_id != mine[0]._trial_id]
        found = [trial for trial in (*others, *mine) if states is None or trial.state in states]
        return copy.deepcopy(found) if deepcopy else found

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        """In memory."""
        self.get_trial(trial_id).params[param_name] = distribution.to_external_repr(param_value_internal)
        self.get_trial(trial_id).distributions[param_name] = distribution

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """In memory."""
        draft = self.get_trial(trial_id)
        if state == TrialState.RUNNING and draft.state != TrialState.WAITING:
            return False
        draft.state = state
        if values is not None:
            draft.values = list(values)
        if state == TrialState.RUNNING:
            draft.datetime_start = datetime.now()
        elif state.is_finished():
            draft.datetime_complete = datetime.now()
        return True

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        """In memory."""
        self.get_trial(trial_id).intermediate_values[step] = intermediate_value

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """In memory."""
        self.get_trial(trial_id).user_attrs[key] = value

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """In memory."""
        self.get_trial(trial_id).system_attrs[key] = value

    # The study is changed elsewhere.
    create_new_study = _elsewhere
    delete_study = _elsewhere
    get_all_studies = _elsewhere
    set_study_user_attr = _elsewhere
    set_study_system_attr = _elsewhere
