"""Which config trials are drawn near, with a model that always proposes the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from tuner.studies.search.nearby import NearbySampler

RANGE = {name: FloatDistribution(0.0, 1.0) for name in "abcdef"}
DEFAULT = dict.fromkeys(RANGE, 0.1)
GOOD = dict.fromkeys(RANGE, 0.2)
BETTER = dict.fromkeys(RANGE, 0.3)
NEAR_BEST = 1 / 3


class Model(RandomSampler):
    """Proposes 1 for everything."""

    def sample_independent(self, *args: Any, **kwargs: Any) -> Any:
        return 1.0


def ended(params: dict[str, float], values: float | list[float], violated: float = 0.0) -> FrozenTrial:
    """A trial that is complete with a value, or pruned after epochs with these."""
    end: dict[str, Any] = {"value": values}
    if isinstance(values, list):
        end = {"state": TrialState.PRUNED, "intermediate_values": dict(enumerate(values, 1))}
    return create_trial(params=params, distributions=dict(RANGE), constraints={"memory": violated}, **end)


def sources(study: optuna.Study, near_best: float = NEAR_BEST, startup: int = 2, asks: int = 300) -> dict[str, float]:
    """The shares of trials by what they are drawn from."""
    found = []
    for seed in np.random.default_rng(0).integers(2**31, size=asks).tolist():
        study.sampler = NearbySampler(Model(seed), startup, DEFAULT, near_best, seed)
        values = list(study.ask(RANGE).params.values())
        near = {0.1: "default", 0.2: "good", 0.3: "better", 1.0: "model"}
        found.append(next((name for value, name in near.items() if value in values), "range"))
    return {name: found.count(name) / asks for name in found}


def test_before_the_model_half_of_the_trials_are_near_the_default_config() -> None:
    study = optuna.create_study()
    study.add_trial(ended(GOOD, 1.0))
    shares = sources(study)
    assert shares.keys() == {"default", "range"}
    assert 0.42 < shares["default"] < 0.58


@pytest.mark.parametrize(
    ("direction", "trials", "near"),
    [
        ("maximize", [ended(GOOD, 0.4), ended(BETTER, 0.5)], "better"),
        ("minimize", [ended(GOOD, 0.4), ended(BETTER, 0.5)], "good"),
        ("maximize", [ended(GOOD, 0.4), ended(BETTER, [0.1, 0.5])], "better"),
        ("maximize", [ended(GOOD, 0.4), ended(BETTER, [0.5, float("nan")])], "good"),
        ("maximize", [ended(GOOD, 0.4), ended(BETTER, [])], "good"),
        ("maximize", [ended(GOOD, 0.4), ended(BETTER, 0.5, violated=1.0)], "good"),
    ],
)
def test_with_a_model_one_trial_of_three_is_near_the_best(direction: str, trials: list[FrozenTrial], near: str) -> None:
    study = optuna.create_study(direction=direction)
    study.add_trials(trials)
    shares = sources(study)
    # What is near a config of six parameters has one of its values, but for one of 64.
    assert shares.keys() <= {near, "model", "range"}
    assert shares["model"] == pytest.approx(1 - NEAR_BEST, abs=0.1)
    assert shares[near] == pytest.approx(NEAR_BEST, abs=0.1)
    assert sources(study, near_best=0.0) == {"model": 1.0}


@pytest.mark.parametrize(
    ("directions", "trials"),
    [
        (["maximize"], [ended(GOOD, []), ended(BETTER, 0.5, violated=1.0)]),
        (["maximize", "minimize"], [create_trial(params=GOOD, distributions=dict(RANGE), values=[0.1, 0.2])] * 2),
    ],
)
def test_the_model_draws_all_where_no_trial_is_the_best(directions: list[str], trials: list[FrozenTrial]) -> None:
    study = optuna.create_study(directions=directions)
    study.add_trials(trials)
    assert sources(study) == {"model": 1.0}
