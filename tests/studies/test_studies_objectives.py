"""Studies with several objectives, with constraints, and with metrics that are to be small."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import optuna
import pytest
from pydantic import ValidationError
from study_cases import EPOCHS, WORKER, operating_point, result, spec_for
from typer.testing import CliRunner

from tuner.cli.app import app
from tuner.config.errors import ConfigError
from tuner.config.study import DataSpec
from tuner.evaluation.cost import BatchTimes, ImageCost, Timing
from tuner.studies.opening import open_study
from tuner.studies.search.objective import chosen_by, criteria_of, needs_cost
from tuner.studies.study import Study
from tuner.trainers.contract import BadConfig


def cost(milliseconds: float) -> ImageCost:
    time = Timing(median=milliseconds, p90=milliseconds)
    times = BatchTimes(batch_size=1, runs=10, network=time, postprocess=time, total=time)
    return ImageCost(
        device="cpu",
        precision="fp32",
        canvas=(96, 64),
        single=times,
        batch=times,
        parameters=7,
        multiply_adds=9,
        inference_memory_mb=None,
    )


def run(study: Study, top: float, **changes: Any) -> str:
    """Run the next trial, whose mAP rises to `top`."""
    assignment = study.next_trial(WORKER)
    assert assignment is not None
    for epoch in range(1, EPOCHS + 1):
        point = {"operating_point": operating_point() if epoch == EPOCHS else None}
        if study.report(assignment, result_of(epoch, top * epoch / EPOCHS, **(point | changes))):
            study.prune(assignment, "stopped by the pruner")
            return "pruned"
    study.complete(assignment)
    return "complete"


def result_of(epoch: int, value: float, **changes: Any) -> Any:
    found = result(epoch, value)
    return dataclasses.replace(found, metrics=found.metrics.model_copy(update=changes))


def test_pareto_front(sqlite_url: str, begin: Callable[..., Study]) -> None:
    study = begin(sqlite_url, objectives=["map", "latency_ms"], pruner={"name": "none"}, budget={"trials": 5})
    for top, milliseconds in ((0.5, 20.0), (0.6, 30.0), (0.4, 25.0), (0.3, 10.0), (0.6, 31.0)):
        assert run(study, top, cost=cost(milliseconds)) == "complete"
    assert study.next_trial(WORKER) is None
    assert [trial.number for trial in study.front()] == [0, 1, 3]
    best = study.best()
    assert best is not None
    assert best.number == 1
    assert study.optuna.metric_names == ["map", "latency_ms"]
    assert study.optuna.trials[3].values == [pytest.approx(0.3), 10.0]
    runner = CliRunner()
    shown = runner.invoke(app, ["best", study.name, "--storage", sqlite_url])
    assert shown.exit_code == 0, shown.output
    assert [line.split()[:2] for line in shown.output.splitlines() if line.startswith("  trial")] == [
        ["trial", "0"],
        ["trial", "1"],
        ["trial", "3"],
    ]
    told = json.loads(runner.invoke(app, ["best", study.name, "--storage", sqlite_url, "--json"]).output)
    assert told["pareto_front"][2] == {"number": 3, "map": pytest.approx(0.3), "latency_ms": 10.0}
    opened = open_study(study.name, sqlite_url)
    assert opened.spec.objectives == ("map", "latency_ms")
    assert needs_cost(opened.spec)
    opened.close()


@pytest.mark.parametrize("pruner", [{"name": "successive_halving"}, {"name": "median", "startup_trials": 2}])
def test_several_objectives_are_pruned_by_map(
    sqlite_url: str, begin: Callable[..., Study], pruner: dict[str, Any]
) -> None:
    study = begin(sqlite_url, objectives=["map50", "latency_ms"], pruner=pruner, sampler={"startup_trials": 2})
    ends = [run(study, top, cost=cost(20.0)) for top in (0.5, 0.6, 0.1, 0.7, 0.1, 0.1)]
    assert ends == ["complete", "complete", "pruned", "complete", "pruned", "pruned"]
    states = [trial.state for trial in study.optuna.trials]
    assert states.count(optuna.trial.TrialState.PRUNED) == 3


def test_the_best_keeps_the_constraints(sqlite_url: str, begin: Callable[..., Study]) -> None:
    study = begin(sqlite_url, constraints=["latency_ms <= 20", "map50 >= 0.2"], pruner={"name": "none"})
    run(study, 0.5, cost=cost(30.0))
    assert study.best() is None
    words = {
        "show": "30.0000",
        "status": "none keeps the constraints",
        "best": "no complete trial that keeps latency_ms <= 20 and map50 >= 0.2",
        "export": "no complete trial to export that keeps latency_ms <= 20 and map50 >= 0.2",
    }
    for command, expected in words.items():
        output = ["-o", "unwritten.yaml"] if command == "export" else []
        told = CliRunner().invoke(app, [command, study.name, "--storage", sqlite_url, *output])
        assert expected in told.output + str(told.exception), command
    run(study, 0.3, cost=cost(20.0))
    run(study, 0.9, cost=cost(21.0))
    run(study, 0.1, cost=cost(1.0))
    best = study.best()
    assert best is not None
    assert best.number == 1
    assert study.summary().best == (1, pytest.approx(0.3))
    assert study.optuna.trials[0].constraints == {"latency_ms <= 20": 10.0, "map50 >= 0.2": pytest.approx(-0.3)}
    assert study.optuna.best_trial.number == 1


def test_a_metric_that_is_to_be_small(sqlite_url: str, begin: Callable[..., Study]) -> None:
    study = begin(sqlite_url, objective={"metric": "count_mae"})
    for error in (3.0, 1.0, 2.0):
        run(study, 0.5, count_mae=error)
    best = study.best()
    assert best is not None
    assert (best.number, best.value) == (1, 1.0)
    assert study.optuna.best_trial.number == 1


def test_what_was_never_measured_is_named(sqlite_url: str, begin: Callable[..., Study]) -> None:
    study = begin(sqlite_url, constraints=["latency_ms <= 20"], pruner={"name": "none"})
    with pytest.raises(BadConfig, match="the metric latency_ms is undefined"):
        run(study, 0.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objectives": ["map", "latency_ms"], "sampler": {"name": "cmaes"}}, "cmaes knows one objective"),
        ({"objectives": ["map", "latency_ms"], "pruner": {"name": "hyperband"}}, "hyperband knows one objective"),
        ({"objectives": ["map"]}, "several different objectives"),
        ({"objectives": ["map", "map"]}, "several different objectives"),
        ({"objectives": ["map", "latency"]}, "Did you mean 'latency_ms'"),
        ({"constraints": ["latency_ms < 20"]}, "not of the form METRIC <= NUMBER"),
    ],
)
def test_what_cannot_be(sqlite_url: str, begin: Callable[..., Study], changes: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, ValidationError), match=message):
        begin(sqlite_url, **changes)


def test_what_a_study_asks_of_the_trainer(data: DataSpec) -> None:
    spec = spec_for(
        data,
        "sqlite://",
        "wishes",
        objective={"metric": "0.5*recall@precision=0.9 + map"},
        objectives=["precision@recall=0.5", "parameters"],
    )
    assert criteria_of(spec) == ("precision@recall=0.5", "recall@precision=0.9")
    assert needs_cost(spec)
    assert chosen_by(spec) == "precision@recall=0.5"
    assert chosen_by(spec_for(data, "sqlite://", "cheap", objectives=["latency_ms", "f1"])) == "f1"
    assert chosen_by(spec_for(data, "sqlite://", "count", objective={"metric": "count_mae"})) == "count_mae"
    assert not needs_cost(spec_for(data, "sqlite://", "plain"))
