"""Trials that an Optuna client other than tuner runs, or has told of, in a study."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, create_trial
from sqlalchemy import event
from study_cases import WORKER, train

from tuner.space.space import SearchSpace
from tuner.studies.state.foreign import as_ours
from tuner.studies.study import Study

Begin = Callable[..., Study]
WIDER: dict[str, BaseDistribution] = {
    "learning_rate": FloatDistribution(1e-5, 1.0, log=True),
    "augment.mosaic": FloatDistribution(0.0, 1.0, step=0.1),
    "anchors": CategoricalDistribution(["default", "kmeans-iou"]),
}
"""The dimensions of the study as another script may have them."""


def client_of(study: Study) -> optuna.Study:
    return optuna.load_study(study_name=study.name, storage=study.database.optuna)


def run_one(study: Study, top: float) -> int:
    assignment = study.next_trial(WORKER)
    assert assignment is not None
    train(study, assignment, top)
    return assignment.number


def told(params: dict[str, Any] | None = None, **fields: Any) -> FrozenTrial:
    params = {"learning_rate": 0.01, "augment.mosaic": 0.5, "anchors": "default"} if params is None else params
    return create_trial(params=params, distributions={name: WIDER[name] for name in params}, **fields)


def shown(study: Study) -> Sequence[FrozenTrial]:
    return study.database.run(study._asker._sampler.look).shown


def test_a_trial_that_another_client_runs_is_its_own(studies_url: str, begin: Begin) -> None:
    study = begin(studies_url)
    run_one(study, 0.5)
    client = client_of(study)
    theirs = client.ask(WIDER | {"learning_rate": FloatDistribution(1e-3, 1e-2, log=True)})
    unknown = client.ask()
    assert run_one(study, 0.4) == 3
    assert study.summary().foreign_running == 2
    assert [trial.number for trial in shown(study) if not trial.state.is_finished()] == [theirs.number]
    assert client.tell(theirs, 0.99).values == [0.99]
    client.tell(unknown, state=optuna.trial.TrialState.PRUNED)
    assert run_one(study, 0.3) == 4
    assert (client.trials[1].value, len(study.trials())) == (0.99, 3)
    found = study.summary()
    assert (found.foreign_running, found.foreign_used, found.foreign_ignored) == (0, 1, 1)
    learnt = {trial.number: trial for trial in shown(study)}
    assert learnt.keys() == {0, 1, 3, 4}
    assert (learnt[1].value, learnt[1].distributions) == (0.99, learnt[0].distributions)


def test_a_queued_point_that_another_client_takes_is_its_own(studies_url: str, begin: Begin) -> None:
    study = begin(studies_url)
    run_one(study, 0.5)
    client = client_of(study)
    for _ in range(2):
        client.enqueue_trial({"learning_rate": 0.01})
    assert client.ask().number == 1
    assert run_one(study, 0.4) == 2
    assert study.trials()[-1].params["learning_rate"] == 0.01
    assert run_one(study, 0.3) == 3


def test_a_queued_point_that_is_taken_while_a_worker_looks_is_its_takers(sqlite_url: str, begin: Begin) -> None:
    study = begin(sqlite_url)
    run_one(study, 0.5)
    client = client_of(study)
    for rate in (0.01, 0.02):
        client.enqueue_trial({"learning_rate": rate})
    taken: list[int] = []

    def take(connection: object, cursor: object, statement: str, *_: object) -> None:
        if "WHERE trials.trial_id = " in statement and not taken:  # all of one that waited when the worker looked
            taken.append(-1)
            taken.append(client.ask().number)

    event.listen(study.database.engine, "before_cursor_execute", take)
    assert run_one(study, 0.4) == 2
    assert taken == [-1, 1]
    assert study.trials()[-1].params["learning_rate"] == 0.02


@pytest.mark.parametrize(
    "trial",
    [
        create_trial(value=0.9),
        told({"learning_rate": 0.01}, value=0.9),
        told({"learning_rate": 0.5, "augment.mosaic": 0.5, "anchors": "default"}, value=0.9),
        told(value=float("inf")),
        told(value=float("-inf")),
    ],
    ids=["no parameters", "some parameters", "out of range", "inf", "-inf"],
)
def test_a_trial_that_teaches_nothing_does_not_make_the_sampler_blind(
    studies_url: str, begin: Begin, trial: FrozenTrial
) -> None:
    study = begin(studies_url, sampler={"name": "gp"})
    for top in (0.3, 0.4, 0.5):
        run_one(study, top)
    client_of(study).add_trial(trial)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run_one(study, 0.6)
    seen = shown(study)
    assert [one.number for one in seen] == [0, 1, 2, 4]
    assert optuna.search_space.intersection_search_space(list(seen)) == study.space.distributions()
    assert (study.summary().foreign_used, study.summary().foreign_ignored) == (0, 1)


def test_a_trial_of_other_ranges_teaches_as_one_of_the_study(studies_url: str, begin: Begin) -> None:
    study = begin(studies_url, sampler={"name": "gp"})
    for top in (0.3, 0.4):
        run_one(study, top)
    client_of(study).add_trial(told(value=0.9))
    reported = {1: 0.1, 2: float("inf"), 3: float("nan")}
    client_of(study).add_trial(told(state=optuna.trial.TrialState.PRUNED, intermediate_values=reported))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run_one(study, 0.5)
    seen = shown(study)
    assert [one.number for one in seen] == [0, 1, 2, 3, 4]
    assert optuna.search_space.intersection_search_space(list(seen)) == study.space.distributions()
    assert seen[3].intermediate_values == {1: 0.1}


def test_own_trials_are_seen_whatever_they_lack(sqlite_url: str, begin: Begin) -> None:
    study = begin(sqlite_url)
    run_one(study, 0.5)
    client_of(study).enqueue_trial({"learning_rate": 5.0})  # is refused, and has no parameters then
    run_one(study, 0.4)
    client_of(study).add_trial(create_trial(value=0.9))
    assert [trial.number for trial in shown(study)] == [0, 1, 2]


def test_a_condition_decides_which_parameters_a_trial_needs() -> None:
    momentum = {"type": "float", "low": 0.9, "high": 0.99, "when": {"optimizer": "sgd"}}
    choices = {"type": "categorical", "choices": ["adamw", "sgd"]}
    dimensions = {"optimizer": choices, "momentum": momentum, "weight_decay": {"type": "fixed", "value": 0.0}}
    space = SearchSpace.model_validate({"name": "space", "dimensions": dimensions})
    theirs = {"optimizer": CategoricalDistribution(["sgd", "adamw"]), "momentum": FloatDistribution(0.5, 1.0)}

    def seen(**params: Any) -> dict[str, Any] | None:
        distributions: Any = {name: theirs[name] for name in params}
        found = as_ours(create_trial(params=params, distributions=distributions, value=0.5), space)
        return None if found is None else found.params

    assert seen(optimizer="sgd") is None
    assert seen(optimizer="sgd", momentum=0.95) == {"optimizer": "sgd", "momentum": 0.95}
    assert seen(optimizer="adamw") == {"optimizer": "adamw"}
    assert seen(optimizer="adamw", momentum=0.95) == {"optimizer": "adamw"}
