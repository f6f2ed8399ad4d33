"""CMA-ES samples what Optuna's own sampler samples, and no pickle is written or read."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import cmaes
import numpy as np
import optuna
import pytest
from optuna.samplers import BaseSampler, CmaEsSampler

from tuner.config.errors import StudyError
from tuner.studies.search.cma_es import JsonCmaEsSampler, restored, state_of
from tuner.studies.search.quiet_optuna import quiet

TRIALS = 40


def _objective(trial: optuna.Trial) -> float:
    x, y = trial.suggest_float("x", 1e-3, 1.0, log=True), trial.suggest_float("y", -2.0, 2.0)
    return (np.log(x) + 2) ** 2 + y**2 + trial.suggest_int("n", 1, 9) / 10


def _study(build: Callable[[int], BaseSampler]) -> optuna.Study:
    """With a new sampler for each trial, as each ask of a worker has it."""
    study = optuna.create_study()
    for number in range(TRIALS):
        study.sampler = build(number)
        study.optimize(_objective, n_trials=1)
    return study


@pytest.fixture
def ours(monkeypatch: pytest.MonkeyPatch) -> optuna.Study:
    def refuse(*_: object) -> None:
        raise AssertionError("unpickled")

    monkeypatch.setattr(pickle, "loads", refuse)
    with quiet():
        return _study(lambda seed: JsonCmaEsSampler(seed=seed))


def test_samples_as_optuna_does(ours: optuna.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with quiet():
        theirs = _study(lambda seed: CmaEsSampler(seed=seed))
    assert [trial.params for trial in ours.trials] == [trial.params for trial in theirs.trials]
    assert ours.trials[-1].system_attrs["cma:generation"] >= 3


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_learns_from_trials_that_were_stopped(direction: str) -> None:
    """One of five is complete, as where trials pause: these alone would never fill a generation."""
    sign = 1 if direction == "minimize" else -1

    def objective(trial: optuna.Trial) -> float:
        value = sign * _objective(trial)
        trial.report(value + sign, 1)
        if trial.number % 5:
            raise optuna.TrialPruned
        return value

    study = optuna.create_study(direction=direction)
    with quiet():
        for number in range(2 * TRIALS):
            study.sampler = JsonCmaEsSampler(seed=number)
            study.optimize(objective, n_trials=1)
    assert study.trials[-1].system_attrs["cma:generation"] >= 6
    worth = [sign * trial.intermediate_values[1] for trial in study.trials]
    assert np.mean(worth[-20:]) < np.mean(worth[:20]) - 1


def test_what_is_kept_is_json_alone(ours: optuna.Study) -> None:
    kept = [attrs for trial in ours.trials if (attrs := trial.system_attrs)]
    names = {name for attrs in kept for name in attrs}
    assert names >= {"cma:generation", "cma:state:0"}
    assert not any(name.startswith("cma:optimizer") for name in names)
    for attrs in kept:
        text = "".join(attrs[f"cma:state:{part}"] for part in range(len(attrs) - 1))
        if text:
            restored(text)


def test_a_state_of_optuna_itself_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    with quiet():
        study = _study(lambda seed: CmaEsSampler(seed=seed))
        monkeypatch.setattr(pickle, "loads", lambda *_: pytest.fail("unpickled"))
        for number in range(20):
            study.sampler = JsonCmaEsSampler(seed=number)
            study.optimize(_objective, n_trials=1)
    assert study.trials[-1].system_attrs["cma:generation"] >= 2  # it has caught up with the trials that are there


@pytest.mark.parametrize("text", ["no JSON", "[]", "{}"])
def test_a_text_that_is_no_state_is_refused(text: str) -> None:
    with pytest.raises(StudyError, match="state of CMA-ES"):
        restored(text)


@pytest.mark.parametrize(
    ("part", "other"),
    [
        ('"_popsize":7', '"_popsize":"7"'),
        ('"_cm":1', '"__class__":1'),
        ('"_pc":[0.0,0.0,0.0]', '"_pc":[0.0]'),
    ],
)
def test_a_state_with_a_part_of_another_kind_is_refused(part: str, other: str) -> None:
    text = state_of(cmaes.CMA(np.zeros(3), 1.0))
    assert part in text
    with pytest.raises(StudyError, match="state of CMA-ES"):
        restored(text.replace(part, other))
