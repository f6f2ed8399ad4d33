"""No config is trained twice, and a space that has an end is walked to it and no further."""

from collections.abc import Callable
from typing import Any

import pytest
from study_cases import EPOCHS, SPACE, WORKER, forget_worker, result, train

from tuner.config.trial import TrialConfig
from tuner.space.load import load_space
from tuner.studies.state.records import TrialState
from tuner.studies.study import Study
from tuner.studies.trials.sampling import INSTEAD

Begin = Callable[..., Study]
SMALL = {
    "optimizer": {"type": "categorical", "choices": ["adamw", "sgd"]},
    "momentum": {"type": "float", "low": 0.8, "high": 0.95, "step": 0.05, "when": {"optimizer": "sgd"}},
    "batch_size": {"type": "int", "low": 4, "high": 8, "step": 4},
}
POINTS = 2 * (1 + 4)
DEFAULTS = {"epochs": 9, "image_size": 96, "batch_size": 8, "momentum": 0.9}


def run(study: Study) -> int:
    """Train until there is nothing left; how many trials there were."""
    for count in range(100):
        assignment = study.next_trial(WORKER)
        if assignment is None:
            return count
        train(study, assignment, 0.1 + 0.01 * (assignment.number % 5))
    raise AssertionError("the study does not end")


@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes"])
@pytest.mark.parametrize("budget", [{"trials": 50}, {"trials": None, "epochs": 10_000}])
def test_a_space_that_has_an_end_is_walked_once(
    begin: Begin, tmp_path: Any, sampler: str, budget: dict[str, Any]
) -> None:
    changes = {"space": SMALL, "defaults": DEFAULTS, "sampler": {"name": sampler}, "budget": budget}
    study = begin(f"sqlite:///{tmp_path}/t.db", pruner={"name": "none"}, **changes)
    assert run(study) == POINTS
    trials = study.trials(epochs=False)
    assert all(trial.state is TrialState.COMPLETE for trial in trials)
    assert len({trial.config for trial in trials}) == POINTS
    # Where the sampler proposed what was tried, it says so.
    marked = [trial for trial in study.optuna.trials if INSTEAD in trial.user_attrs]
    assert marked
    assert all(trial.user_attrs[INSTEAD] < trial.number for trial in marked)
    assert study.summary().spent == f"all {POINTS} configs of the search space"


def test_a_study_that_promotes_closes_when_its_space_is_walked(begin: Begin, tmp_path: Any) -> None:
    study = begin(f"sqlite:///{tmp_path}/t.db", pruner={"name": "promote"}, space=SMALL, defaults=DEFAULTS)
    while (assignment := study.next_trial(WORKER)) is not None:
        for epoch in range(assignment.first_epoch, 10):
            if study.report(assignment, result(epoch, 0.1 * (assignment.number % 3))):
                study.stop_early(assignment)
                break
        else:
            study.complete(assignment)
    counts = study.summary().counts
    assert counts[TrialState.COMPLETE] + counts[TrialState.PRUNED] == POINTS
    assert counts[TrialState.COMPLETE] >= 2


@pytest.mark.parametrize("killed", [False, True], ids=["undisturbed", "killed before the anchors are made"])
def test_recipes_that_make_equal_anchors_are_trained_once(begin: Begin, tmp_path: Any, *, killed: bool) -> None:
    space = {
        "anchors": {"type": "categorical", "choices": ["kmeans-iou", "kmeans-iou-3", "kmeans-iou-balanced-3"]},
        # A dimension that hangs on the recipe, so that none is left out from the first.
        "weight_decay": {"type": "fixed", "value": 1e-3, "when": {"anchors": "kmeans-iou-balanced-3"}},
    }
    study = begin(
        f"sqlite:///{tmp_path}/t.db",
        pruner={"name": "none"},
        space=space,
        defaults={"epochs": 9, "image_size": 96, "anchors": "kmeans-iou"},
    )
    while killed and (assignment := study._asker.ask(WORKER)) is not None:
        forget_worker(study, assignment)
    trained = run(study)
    trials = study.trials(epochs=False)
    assert trained == len({(trial.config.anchor_sizes, trial.config.weight_decay) for trial in trials}) == 2
    repeats = [trial for trial in trials if trial.kind == "duplicate"]
    assert len(trials) == trained + len(repeats) == 3
    assert repeats
    assert all(trial.state is TrialState.PRUNED and "same as trial" in str(trial.reason) for trial in repeats)
    assert study.summary().full_epochs == 9 * trained


def test_the_points_of_a_space() -> None:
    space = load_space(SMALL)
    points = space.points()
    assert points is not None
    assert len(points) == POINTS
    assert all(space.contains(point) for point in points)
    assert space.params_of(TrialConfig(batch_size=8, optimizer="sgd", momentum=0.9)) in points
    assert space.points(POINTS - 1) is None
    assert load_space("default").points() is None


def test_a_grid_ends_when_it_is_walked(sqlite_url: str, begin: Begin) -> None:
    space = {"anchors": SPACE["anchors"], "optimizer": {"type": "categorical", "choices": ["adamw", "sgd"]}}
    study = begin(sqlite_url, space=space, sampler={"name": "grid"}, pruner={"name": "none"})
    seen = []
    while (assignment := study.next_trial(WORKER)) is not None:
        seen.append((assignment.params["anchors"], assignment.params["optimizer"]))
        train(study, assignment, 0.5)
    assert seen[0] == ("default", "adamw")
    assert sorted(seen) == sorted((a, o) for a in ("default", "kmeans-iou") for o in ("adamw", "sgd"))


def test_points_that_repeat_others_cost_a_grid_none_of_its_own(sqlite_url: str, begin: Begin) -> None:
    space = {"batch_size": {"type": "categorical", "choices": [4, 8, 16]}}
    study = begin(sqlite_url, space=space, sampler={"name": "grid"}, pruner={"name": "none"})
    for _ in range(2):
        study.optuna.enqueue_trial({"batch_size": 8})
    seen = []
    while (assignment := study.next_trial(WORKER)) is not None:
        seen.append(assignment.params["batch_size"])
        train(study, assignment, 0.5)
    assert sorted(seen) == [4, 8, 8, 8, 16]


def test_points_that_do_not_fit_together_are_told_and_do_not_count(sqlite_url: str, begin: Begin) -> None:
    space = {"warmup_epochs": {"type": "float", "low": 1.0, "high": 20.0}}
    study = begin(sqlite_url, space=space, sampler={"name": "random"}, budget={"trials": 4})
    handed_out = []
    while (assignment := study.next_trial(WORKER)) is not None:
        handed_out.append(assignment.config.warmup_epochs)
        train(study, assignment, 0.5)
    assert len(handed_out) == 4
    assert max(handed_out) <= EPOCHS
    unfit = [trial for trial in study.trials() if trial.kind == "infeasible"]
    assert unfit
    for record in unfit:
        frozen = study.optuna.trials[record.number]
        assert (record.state, record.attempts) == (TrialState.PRUNED, ())
        assert frozen.constraints == {"config": 1.0}
        assert frozen.params["warmup_epochs"] > EPOCHS
