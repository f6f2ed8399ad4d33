from collections.abc import Callable
from typing import Any

import pytest

from tuner.config.errors import ConfigError
from tuner.config.load import base_config
from tuner.space.load import load_space
from tuner.studies.anchor_space import without_ruled_out
from tuner.studies.enqueue import enqueue
from tuner.studies.study import Study

SPACE = {
    "learning_rate": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True},
    "anchors": {"type": "categorical", "choices": ["default", "kmeans-iou", "kmeans-iou-3"]},
}


def test_what_the_boxes_rule_out_is_no_choice(begin: Callable[..., Study], sqlite_url: str) -> None:
    study = begin(sqlite_url, space=SPACE)
    assert study.space.dimensions["anchors"].choices == ("default", "kmeans-iou")
    assert begin(sqlite_url, space=SPACE).space == study.space
    given = {"learning_rate": 1e-3, "anchors": "kmeans-iou-3"}
    with pytest.raises(ConfigError, match=r"point 1: anchors = 'kmeans-iou-3' lies outside"):
        enqueue(study, [given])


def test_a_detector_without_anchors_tries_no_recipes(begin: Callable[..., Study], sqlite_url: str) -> None:
    study = begin(sqlite_url)
    base = base_config(study.spec).model_copy(update={"model": "fcos-resnet50"})
    space, dropped = without_ruled_out(load_space(SPACE), base, study.dataset.train)
    assert space.dimensions["anchors"].choices == ("default",)
    assert dropped == dict.fromkeys(["kmeans-iou", "kmeans-iou-3"], "fcos-resnet50 has no anchors")


@pytest.mark.parametrize(
    ("models", "kept"),
    [
        (["dense-tiny", "dense-small"], ("default", "kmeans-iou")),
        (["dense-tiny", "fcos-resnet50"], ("default", "kmeans-iou")),
        # 15 anchors at each level are its default, so 3 at each are another set there.
        (["dense-tiny", "fasterrcnn-mobilenet"], ("default", "kmeans-iou", "kmeans-iou-3")),
    ],
)
def test_of_several_detectors_each_may_have_a_use_for_a_recipe(
    begin: Callable[..., Study], sqlite_url: str, models: list[str], kept: tuple[str, ...]
) -> None:
    study = begin(sqlite_url)
    space = load_space(SPACE | {"model": {"type": "categorical", "choices": models}})
    narrowed, dropped = without_ruled_out(space, base_config(study.spec), study.dataset.train)
    assert narrowed.dimensions["anchors"].choices == kept
    assert dropped.keys() == {"default", "kmeans-iou", "kmeans-iou-3"} - set(kept)


@pytest.mark.parametrize(
    "changes",
    [
        {"anchors": "default"},
        {"augment.mosaic": {"type": "float", "low": 0.0, "high": 1.0, "when": {"anchors": "default"}}},
    ],
    ids=["fixed", "a condition"],
)
def test_where_all_stay(begin: Callable[..., Study], sqlite_url: str, changes: dict[str, Any]) -> None:
    study = begin(sqlite_url)
    space = load_space(SPACE | changes)
    assert without_ruled_out(space, base_config(study.spec), study.dataset.train) == (space, {})
