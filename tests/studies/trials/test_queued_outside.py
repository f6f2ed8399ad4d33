"""Points that an Optuna client other than tuner has queued in a study, and what it tells of our trials."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optuna
import pytest
from sqlalchemy import update
from study_cases import WORKER, result, train

from tuner.cli.summary import print_findings
from tuner.config.errors import FailureKind
from tuner.storage.tables import TrialRow
from tuner.studies.state.records import TrialState
from tuner.studies.study import Study

Begin = Callable[..., Study]


def client_of(study: Study) -> optuna.Study:
    return optuna.load_study(study_name=study.name, storage=study.database.optuna)


def run_one(study: Study, top: float) -> tuple[int, bool]:
    assignment = study.next_trial(WORKER)
    assert assignment is not None
    train(study, assignment, top)
    return assignment.number, assignment.is_default


@pytest.mark.parametrize(
    ("point", "why"),
    [
        ({"learning_rate": float("nan")}, "learning_rate = nan lies outside 0.0001 … 0.1 (log)"),
        ({"learning_rate": "fast", "augment.mosaic": 0.1}, "learning_rate = 'fast' lies outside 0.0001 … 0.1 (log)"),
        ({"learning_rate": 0.01, "augment.mosaic": None}, "augment.mosaic = None lies outside 0 … 1 in steps of 0.1"),
        ({"learning_rate": 0.2}, "learning_rate = 0.2 lies outside 0.0001 … 0.1 (log)"),
        ({"anchors": "kmeans"}, "anchors = 'kmeans' lies outside one of 'default', 'kmeans-iou'"),
        ({"lr": 0.01}, "the space samples no 'lr'"),
    ],
    ids=["nan", "text", "none", "outside", "no choice", "no name"],
)
def test_a_point_outside_the_space_is_ended_and_the_study_goes_on(
    studies_url: str, begin: Begin, point: dict[str, Any], why: str
) -> None:
    study = begin(studies_url)
    run_one(study, 0.5)
    client_of(study).enqueue_trial(point)
    assert run_one(study, 0.4) == (2, False)
    refused = study.trials()[1]
    assert (refused.state, refused.kind, refused.params) == (TrialState.PRUNED, "infeasible", {})
    assert refused.reason == f"queued from outside: {why}"
    assert study.optuna.trials[1].state == optuna.trial.TrialState.FAIL  # so that no sampler learns from it
    assert (study.summary().queued, study.summary().refused) == (0, (1,))


def test_a_value_that_the_others_leave_no_use_for_is_refused_as_well(
    studies_url: str, begin: Begin, capsys: pytest.CaptureFixture[str]
) -> None:
    space = {
        "optimizer": {"type": "categorical", "choices": ["adamw", "sgd"]},
        "momentum": {"type": "float", "low": 0.8, "high": 0.99, "when": {"optimizer": "sgd"}},
    }
    study = begin(studies_url, space=space)
    run_one(study, 0.5)
    client_of(study).enqueue_trial({"optimizer": "adamw", "momentum": 0.9})
    client_of(study).enqueue_trial({"optimizer": "sgd", "momentum": 0.9})
    assert run_one(study, 0.4) == (2, False)
    _, refused, trained = study.trials()
    assert refused.params == {}
    why = "momentum is given, but its conditions do not hold: it needs optimizer = 'sgd'"
    assert refused.reason == f"queued from outside: {why}"
    assert study.optuna.trials[1].state == optuna.trial.TrialState.FAIL  # other values of adamw are no worse for it
    assert trained.params == {"optimizer": "sgd", "momentum": 0.9}
    assert study.summary().refused == (1,)
    print_findings(study.summary(), None)
    assert f"1 point that other Optuna clients queued; `tuner show {study.name} 1` says why" in capsys.readouterr().out


@pytest.mark.parametrize("sampler", ["grid", "gp", "tpe", "cmaes", "random"])
def test_what_a_point_leaves_open_is_drawn(sqlite_url: str, begin: Begin, sampler: str) -> None:
    optimizer = {"type": "categorical", "choices": ["adamw", "sgd"]}
    space = {"optimizer": optimizer, "batch_size": {"type": "int", "low": 2, "high": 8, "step": 2}}
    study = begin(sqlite_url, space=space, sampler={"name": sampler}, budget={"trials": 20})
    run_one(study, 0.5)
    for point in ({"batch_size": 6}, {"optimizer": "sgd"}, {}):
        client_of(study).enqueue_trial(point)
    while study.summary().spent is None:
        run_one(study, 0.4)
    assert study.next_trial(WORKER) is None
    tried = [trial.params for trial in study.trials()]
    assert (tried[1]["batch_size"], tried[2]["optimizer"]) == (6, "sgd")
    every = [{"optimizer": one, "batch_size": size} for one in ("adamw", "sgd") for size in (2, 4, 6, 8)]
    assert all(point in tried for point in every)
    assert all(point in every for point in tried)


@pytest.mark.parametrize("how", ["enqueued", "asked", "told"])
def test_the_default_config_comes_first_all_the_same(studies_url: str, begin: Begin, how: str) -> None:
    study = begin(studies_url)
    client = client_of(study)
    if how == "enqueued":
        client.enqueue_trial({"learning_rate": 0.01})
    else:
        asked = client.ask()
        if how == "told":
            client.tell(asked, 0.3)
    assert run_one(study, 0.5) == (1, True)
    number, is_default = run_one(study, 0.4)
    assert (number, is_default) == (0 if how == "enqueued" else 2, False)
    assert study.summary().default_value == pytest.approx(0.5)


def test_a_study_that_began_without_the_default_config_trains_it_next(sqlite_url: str, begin: Begin) -> None:
    study = begin(sqlite_url)
    run_one(study, 0.4)
    none_is_it = update(TrialRow).where(TrialRow.study_id == study._id).values(is_default=False)
    study.database.run(lambda session: session.execute(none_is_it) and None)
    client_of(study).enqueue_trial({"learning_rate": 0.01})
    assert [run_one(study, 0.3) for _ in range(3)] == [(2, True), (1, False), (3, False)]
    assert study.optuna.trials[2].params == study.optuna.trials[0].params


@pytest.mark.parametrize("end", ["complete", "pruned", "failed"])
def test_what_another_client_tells_of_a_running_trial_is_overwritten_at_its_end(
    studies_url: str, begin: Begin, end: str
) -> None:
    study = begin(studies_url)
    assignment = study.next_trial(WORKER)
    assert assignment is not None
    study.report(assignment, result(1, 0.1))
    client_of(study).tell(assignment.number, 0.99)
    study.report(assignment, result(2, 0.2))
    if end == "complete":
        study.complete(assignment)
    elif end == "pruned":
        study.prune(assignment, "by hand")
    else:
        study.fail(assignment, FailureKind.ERROR, "a bug")
    told = client_of(study).trials[0]
    expected = {"complete": ("COMPLETE", [0.2]), "pruned": ("PRUNED", [0.2]), "failed": ("FAIL", None)}
    assert (told.state.name, told.values) == expected[end]
    assert told.intermediate_values == {1: 0.1, 2: 0.2}
