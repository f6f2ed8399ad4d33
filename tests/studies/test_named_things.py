"""Values of a study that name things, and do not go together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from study_cases import EPOCHS

from tuner.config.errors import ConfigError
from tuner.studies.reading import list_studies
from tuner.studies.study import Study

Begin = Callable[..., Study]
MODELS = {"type": "categorical", "choices": ["dense-small", "dense-tiny"]}
SMALL = {"epochs": EPOCHS, "image_size": 96, "model": "dense-small"}
GIVEN = {"anchors": "custom", "anchor_sizes": [[[10, 10]], [[20, 30]], [[90, 80]]]}


@pytest.mark.parametrize(
    ("defaults", "space", "message"),
    [
        (
            {"weights": "default"},
            {"model": MODELS},
            "model.choices: model = 'dense-tiny' cannot be trained: weights: dense-tiny has no pretrained weights",
        ),
        (
            {},
            {"model": MODELS, "weights": {"type": "categorical", "choices": ["none", "default"]}},
            "model.choices: model = 'dense-tiny', weights = 'default' cannot be trained: weights: dense-tiny has no",
        ),
        (
            GIVEN,
            {"model": {"type": "categorical", "choices": ["dense-small", "retinanet-resnet50"]}},
            "model.choices: model = 'retinanet-resnet50' cannot be trained: anchor_sizes: 3 levels, but",
        ),
        (
            {},
            {"anchors": {"type": "categorical", "choices": ["default", "custom"]}},
            "anchors.choices: anchors = 'custom' cannot be trained: anchors: 'custom' without anchor_sizes",
        ),
    ],
)
def test_choices_that_do_not_go_together_are_refused_before_a_trial_has_them(
    sqlite_url: str, begin: Begin, defaults: dict[str, Any], space: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        begin(sqlite_url, defaults=SMALL | defaults, space=space)
    assert "`when`" in error.value.hint
    assert list_studies(sqlite_url) == []


def test_a_condition_keeps_choices_apart_that_do_not_go_together(sqlite_url: str, begin: Begin) -> None:
    weights = {"type": "categorical", "choices": ["none", "default"], "when": {"model": "dense-small"}}
    begin(sqlite_url, defaults=SMALL, space={"model": MODELS, "weights": weights})
