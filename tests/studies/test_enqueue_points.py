"""Which points a study takes from a file, and which it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tuner.config.errors import ConfigError
from tuner.config.load import base_config
from tuner.config.study import DataSpec, StudySpec
from tuner.config.trial import TrialConfig
from tuner.space.load import load_space
from tuner.studies.enqueue import read_points
from tuner.studies.study import Study

Begin = Callable[..., Study]
LEARNING_RATE = {"type": "float", "low": 1e-4, "high": 1e-1, "log": True}
SGD = {"type": "float", "low": 0.8, "high": 0.99, "when": {"optimizer": "sgd"}}
OPTIMIZER = {"type": "categorical", "choices": ["adamw", "sgd"]}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[]", "the list is empty"),
        ("- {weight_decay: 1e-3}", "does not sample weight_decay: it is 0.0005 for all trials"),
        ("- {nms_iou: 0.5}", "nms_iou is no part of a point: its best value is found after each trial"),
        ("- {momentum: 0.96}", "momentum is given, but its conditions do not hold"),
        (
            "- {learning_rate: 1e-3}\n- {optimizer: sgd}",
            r"points.yaml:2: point 2: the config's momentum = 0.9 lies outside the .*\nGive a value for it",
        ),
    ],
)
def test_a_point_that_is_none(tmp_path: Path, text: str, expected: str) -> None:
    space = load_space(
        {
            "learning_rate": LEARNING_RATE, "weight_decay": 5e-4, "optimizer": OPTIMIZER,
            "momentum": SGD | {"low": 0.95}, "nms_iou": {"type": "float", "low": 0.3, "high": 0.8},
        }
    )  # fmt: skip
    (tmp_path / "points.yaml").write_text(text)
    spec = StudySpec(name="s", data=DataSpec(train=Path("t"), val=Path("v")))
    with pytest.raises(ConfigError, match=expected):
        read_points(tmp_path / "points.yaml", space, base_config(spec))


def test_a_space_that_samples_nothing_has_no_names_to_hint_at(tmp_path: Path) -> None:
    (tmp_path / "points.yaml").write_text("- {learning_rat: 0.1}")
    with pytest.raises(ConfigError, match="samples no 'learning_rat'") as refused:
        read_points(tmp_path / "points.yaml", load_space({"weight_decay": 5e-4}), TrialConfig())
    assert not refused.value.hint


def test_a_point_with_another_model_has_the_rates_of_that_model(tmp_path: Path) -> None:
    models = {"type": "categorical", "choices": ["dense-tiny", "retinanet-resnet50"]}
    space = load_space({"learning_rate": LEARNING_RATE, "model": models})
    (tmp_path / "points.yaml").write_text(
        "- {model: retinanet-resnet50}\n- {model: retinanet-resnet50, learning_rate: 2e-3}"
    )
    points = read_points(tmp_path / "points.yaml", space, TrialConfig())
    assert [point["learning_rate"] for point in points] == [2e-4, 2e-3]


def test_a_point_of_a_study_with_a_fixed_model_has_the_rates_of_that_model(tmp_path: Path) -> None:
    space = load_space({"learning_rate": LEARNING_RATE, "model": "retinanet-resnet50", "optimizer": OPTIMIZER})
    (tmp_path / "points.yaml").write_text(
        "- {optimizer: adamw}\n- {optimizer: sgd}\n- {optimizer: sgd, learning_rate: 3e-3}"
    )
    points = read_points(tmp_path / "points.yaml", space, TrialConfig())
    assert [point["learning_rate"] for point in points] == [2e-4, 2e-3, 3e-3]
