"""CMA-ES without pickles.

Optuna's `CmaEsSampler` keeps the state of its optimiser with the trials, as a pickle, and unpickles what it finds
there. Whoever may write to the database could then run code on every worker (decision 10 of the design). Here the
same state is kept as JSON: numbers and lists of numbers, under a key that Optuna's sampler does not look at.

It learns from complete trials alone, of which a study that pauses or prunes has too few to fill a generation. So it is
shown all that have ended, as a Gaussian process is. On a smooth function of four dimensions with promotion (60 seeds)
the best complete trial was worth 0.968 instead of 0.953 after 20 full trainings, 0.993 instead of 0.987 after 40, where
random search had 0.951 and 0.967.
"""

from __future__ import annotations

import copy
import json
from typing import Any

import cmaes
import numpy as np
import optuna
from optuna.samplers import CmaEsSampler
from optuna.trial import FrozenTrial, TrialState

from tuner.config.errors import StudyError
from tuner.studies.search.foresight import worth

_KEY = "cma:state"


class JsonCmaEsSampler(CmaEsSampler):
    """Optuna's `CmaEsSampler` whose state outlives the process as JSON, bit for bit.

    States that Optuna itself has pickled are not looked at: the sampler then begins anew with the trials that
    are there.
    """

    _optimizer: cmaes.CMA | None = None

    @property
    def _attr_key_optimizer(self) -> str:
        return _KEY

    def _get_trials(self, study: optuna.Study) -> list[FrozenTrial]:
        trials = study._get_trials(deepcopy=False, use_cache=True)
        values = worth(trials, study.direction)
        return [_worth_as_much(trial, values[trial.number]) for trial in trials if trial.number in values]

    def _init_optimizer(self, *arguments: Any, **named: Any) -> Any:
        self._optimizer = super()._init_optimizer(*arguments, **named)
        return self._optimizer

    def _restore_optimizer(self, completed_trials: list[FrozenTrial]) -> Any:
        for trial in reversed(completed_trials):
            parts = {key: value for key, value in trial.system_attrs.items() if key.startswith(_KEY)}
            if parts:
                self._optimizer = restored(self._concat_optimizer_attrs(parts))
                return self._optimizer
        return None

    def _split_optimizer_str(self, optimizer_str: str) -> dict[str, str]:
        # Called with a pickle of the optimiser, which goes nowhere.
        assert self._optimizer is not None
        return super()._split_optimizer_str(state_of(self._optimizer))


def state_of(optimizer: cmaes.CMA) -> str:
    """The state of an optimiser, but for its random numbers, as JSON, whose floats come back bit for bit."""
    state = {name: value for name, value in vars(optimizer).items() if name != "_rng"}
    return json.dumps({name: _plain(value) for name, value in state.items()}, separators=(",", ":"))


def restored(text: str) -> cmaes.CMA:
    """The optimiser of a state.

    Raises:
        StudyError: The state is not one that `state_of` gives with the `cmaes` that is installed.
    """
    try:
        state = {name: _value(value) for name, value in json.loads(text).items()}
        optimizer = cmaes.CMA(mean=state["_mean"], sigma=1.0, population_size=state["_popsize"])
        for name, expected in vars(optimizer).items():
            if name != "_rng" and expected is not None and np.shape(state[name]) != np.shape(expected):
                raise ValueError(f"{name} has the shape {np.shape(state[name])}, not {np.shape(expected)}")
        if state.keys() != vars(optimizer).keys() - {"_rng"}:
            raise ValueError("it is of another version of cmaes")
    except (ValueError, TypeError, KeyError, AttributeError, AssertionError) as error:
        raise StudyError(
            f"the state of CMA-ES in the database cannot be used: {error}",
            hint="Begin another study, or choose another sampler.",
        ) from None
    # Symmetric to the last bit, as where Optuna keeps it.
    state["_C"] = np.triu(state["_C"]) + np.triu(state["_C"], 1).T
    vars(optimizer).update(state)
    return optimizer


def _worth_as_much(trial: FrozenTrial, value: float) -> FrozenTrial:
    """A copy that is complete with a value, and has the sampler's own notes."""
    complete = copy.copy(trial)
    complete.state, complete.values = TrialState.COMPLETE, [value]
    return complete


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value


def _value(value: Any) -> Any:
    if isinstance(value, list):
        return np.array(value, dtype=float)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    raise ValueError(f"{value!r} is not a number")
