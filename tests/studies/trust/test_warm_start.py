"""Which configs a study takes from an earlier one, and which it refuses."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from study_cases import WORKER, train

from tuner.config.errors import FailureKind, StudyError
from tuner.config.study import ObjectiveSpec, StudySpec
from tuner.studies.deleting import delete_study
from tuner.studies.enqueue import enqueue
from tuner.studies.opening import create_or_open
from tuner.studies.study import Study
from tuner.studies.trust.confirm import plan_confirmation
from tuner.studies.trust.warm_start import check_warm_start, warm_points

Begin = Callable[..., Study]
LEARNING_RATE = {"type": "float", "low": 1e-4, "high": 1e-1, "log": True}
SGD = {"type": "float", "low": 0.8, "high": 0.99, "when": {"optimizer": "sgd"}}
OPTIMIZER = {"type": "categorical", "choices": ["adamw", "sgd"]}


def begin_second(study: Study, **changes: object) -> Study:
    fields = study.spec.model_dump() | {"name": f"{study.name[:50]}-2"} | changes
    return create_or_open(StudySpec.model_validate(fields))


def run_one(study: Study, top: float) -> None:
    assignment = study.next_trial(WORKER)
    assert assignment is not None
    train(study, assignment, top)


def test_a_value_without_a_meaning_in_the_earlier_trial_is_no_reason_to_skip_it(begin: Begin, sqlite_url: str) -> None:
    """The earlier trial used AdamW, whose momentum of 0.5 lies outside the range that is for SGD alone."""
    defaults = {"epochs": 9, "image_size": 96, "momentum": 0.5}
    study = begin(sqlite_url, space={"learning_rate": LEARNING_RATE}, defaults=defaults)
    run_one(study, 0.5)
    space = {"learning_rate": LEARNING_RATE, "optimizer": OPTIMIZER, "momentum": SGD}
    second = begin_second(study, space=space, defaults={"epochs": 9, "image_size": 96})
    assert warm_points(second.spec, second.space, study) == ([{"learning_rate": 0.002, "optimizer": "adamw"}], [])
    second.close()


def test_the_default_config_takes_no_place(begin: Begin, sqlite_url: str) -> None:
    study = begin(sqlite_url, sampler={"name": "random"}, pruner={"name": "none"})
    for top in (0.9, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05):
        run_one(study, top)
    tried = [trial.params for trial in study.trials()]
    second = begin_second(study)
    assert warm_points(second.spec, second.space, study) == (tried[:6], [])
    assert enqueue(second, tried[:6]).added == 5
    second.close()


def test_a_rate_of_an_earlier_study_with_a_fixed_model_stays(begin: Begin, sqlite_url: str) -> None:
    model = "retinanet-resnet50"
    defaults = {"epochs": 9, "image_size": 96}
    earlier = {"model": model, "learning_rate": 2e-3}
    study = begin(sqlite_url, space={"optimizer": OPTIMIZER}, defaults=defaults | earlier)
    run_one(study, 0.5)
    space = {"model": model, "learning_rate": LEARNING_RATE, "optimizer": OPTIMIZER}
    second = begin_second(study, space=space, defaults=defaults)
    expected = {"learning_rate": 2e-3, "optimizer": "adamw"}
    assert warm_points(second.spec, second.space, study) == ([expected], [])
    second.close()


def test_what_the_new_space_does_not_hold_is_said_where_it_matters(begin: Begin, sqlite_url: str) -> None:
    anchors = {"type": "categorical", "choices": ["kmeans-iou", "default"]}
    defaults = {"epochs": 9, "image_size": 96}
    study = begin(
        sqlite_url,
        space={"learning_rate": LEARNING_RATE, "anchors": anchors},
        defaults=defaults | {"anchors": "kmeans-iou"},
    )
    run_one(study, 0.5)
    said = "trial 0: this space has no anchors; the default's values are taken"
    for recipe, skipped in (("default", [said]), ("kmeans-iou", [])):
        second = begin_second(study, space={"learning_rate": LEARNING_RATE}, defaults=defaults | {"anchors": recipe})
        assert warm_points(second.spec, second.space, study) == ([{"learning_rate": 0.002}], skipped)
        second.close()
        delete_study(second.name, sqlite_url)
    # So is what neither study searches, since a learning rate that was best for one size may not be for another.
    other = {"epochs": 9, "image_size": 64, "anchors": "kmeans-iou", "augment": {"mosaic": 0.0}}
    second = begin_second(study, space={"learning_rate": LEARNING_RATE}, defaults=other)
    said = "trial 0: this space has no augment.mosaic, image_size; the default's values are taken"
    assert warm_points(second.spec, second.space, study) == ([{"learning_rate": 0.002}], [said])
    second.close()


def test_a_warm_start_takes_no_config_that_broke_the_constraints(begin: Begin, sqlite_url: str) -> None:
    study = begin(sqlite_url, space={"learning_rate": LEARNING_RATE}, constraints=["map50 <= 0.6"])
    run_one(study, 0.5)
    run_one(study, 0.9)
    second = begin_second(study)
    (point,), skipped = warm_points(second.spec, second.space, study)
    assert (point, skipped) == (study.trials()[0].params, [])
    second.close()


def test_what_was_confirmed_comes_first(begin: Begin, sqlite_url: str) -> None:
    """By single runs the order is 3, 2, 1, 4, 0; over fresh seeds 3 breaks the constraint, and 1 is better than 2."""
    study = begin(sqlite_url, pruner={"name": "none"}, constraints=["map50 <= 0.6"])
    for value in (0.1, 0.4, 0.5, 0.55, 0.3):
        run_one(study, value)
    repeats = plan_confirmation(study, top=3, seeds=2)
    while (run := repeats.next_trial(WORKER)) is not None:
        train(repeats, run, {0: 0.1, 1: 0.45, 2: 0.35, 3: 0.65}[run.params["trial"]])
    second = begin_second(study)
    points, skipped = warm_points(second.spec, second.space, study)
    trials = study.trials()
    assert points == [trials[number].params for number in (1, 2, 0, 4)]
    assert skipped == ["trial 3: it does not keep map50 <= 0.6 (0.65 on average)"]
    second.close()


def test_a_confirmation_that_failed_is_said_and_single_runs_are_ranked(begin: Begin, sqlite_url: str) -> None:
    study = begin(sqlite_url, pruner={"name": "none"})
    for value in (0.3, 0.4, 0.5):
        run_one(study, value)
    repeats = plan_confirmation(study, top=2, seeds=2)
    while (run := repeats.next_trial(WORKER)) is not None:
        repeats.fail(run, FailureKind.DIVERGED, "the loss is not finite")
    second = begin_second(study)
    points, (said,) = warm_points(second.spec, second.space, study)
    assert points == [trial.params for trial in reversed(study.trials())]
    assert said.startswith("its confirmation says nothing, so one run of each config counts: the default config")
    second.close()


def test_a_confirmed_default_whose_own_trial_is_not_complete_has_the_thresholds_of_a_fresh_run(
    begin: Begin, sqlite_url: str
) -> None:
    study = begin(sqlite_url, space={"learning_rate": LEARNING_RATE}, pruner={"name": "none"})
    default = study.next_trial(WORKER)
    assert default is not None
    run_one(study, 0.4)
    study.interrupt(default)
    repeats = plan_confirmation(study, top=1, seeds=2)
    while (run := repeats.next_trial(WORKER)) is not None:
        train(repeats, run, 0.4 if run.params["trial"] else 0.5)
    confidence = {"type": "float", "low": 0.05, "high": 0.9, "mode": "sample"}
    second = begin_second(study, space={"learning_rate": LEARNING_RATE, "confidence": confidence})
    (first, _), _ = warm_points(second.spec, second.space, study)
    assert first == {"learning_rate": 0.002, "confidence": 0.4}
    second.close()


def test_thresholds_that_were_swept_are_taken_as_they_were_found(begin: Begin, sqlite_url: str) -> None:
    """The trials of these tests find 0.4 and 0.55; the default config has 0.25 and 0.6."""
    study = begin(sqlite_url, space={"learning_rate": LEARNING_RATE})
    run_one(study, 0.5)
    confidence = {"type": "float", "low": 0.05, "high": 0.9, "mode": "sample"}
    iou = {"type": "float", "low": 0.5, "high": 0.7, "step": 0.1, "mode": "sample"}
    space = {"learning_rate": LEARNING_RATE, "confidence": confidence, "nms_iou": iou}
    second = begin_second(study, space=space)
    (point,), skipped = warm_points(second.spec, second.space, study)
    assert point == {"learning_rate": 0.002, "confidence": 0.4, "nms_iou": 0.6}
    said = "nms_iou = 0.55, found best after it, lies outside 0.5 … 0.7 in steps of 0.1; 0.6 is taken"
    assert skipped == [f"trial 0: {said}"]
    # What was sampled itself is the trial's own.
    run_one(second, 0.5)
    third = begin_second(second, space=space, name="third")
    (point,), skipped = warm_points(third.spec, third.space, second)
    assert (point["confidence"], skipped) == (0.25, [])
    third.close()
    second.close()


@pytest.mark.parametrize(("metric", "other"), [("map", "1*map"), ("0.7*map + 0.3*map50", "0.3*map50+0.7*map")])
def test_a_warm_start_takes_the_same_objective_however_it_is_spelt(
    begin: Begin, sqlite_url: str, metric: str, other: str
) -> None:
    study = begin(sqlite_url, space={"learning_rate": LEARNING_RATE}, objective={"metric": metric})
    run_one(study, 0.5)
    second = begin_second(study, objective={"metric": other})
    assert warm_points(second.spec, second.space, study) == ([{"learning_rate": 0.002}], [])
    second.close()
    with pytest.raises(StudyError, match=r"was to maximize .*, this one is to maximize map75"):
        check_warm_start(second.spec.model_copy(update={"objective": ObjectiveSpec(metric="map75")}), study)


def test_a_study_cannot_start_from_itself(begin: Begin, sqlite_url: str) -> None:
    study = begin(sqlite_url)
    run_one(study, 0.5)
    with pytest.raises(StudyError, match="cannot start from itself"):
        check_warm_start(study.spec, study)
