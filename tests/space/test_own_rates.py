"""Learning rates that a detector or an optimizer brings with it, where a space or a user names none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuner.config.errors import ConfigError
from tuner.config.source import parse_yaml
from tuner.config.trial import TrialConfig
from tuner.space.load import load_space
from tuner.space.space import SearchSpace

BASE = TrialConfig()


def space(text: str) -> SearchSpace:
    return load_space(parse_yaml(text, Path("space.yaml")))


def test_another_model_learns_at_its_own_rates_where_none_was_given() -> None:
    made = space("model: {type: categorical, choices: [dense-tiny, dense-small, retinanet-resnet50]}\n")
    for base in (BASE, TrialConfig(model="retinanet-resnet50")):
        for model in ("dense-tiny", "dense-small", "retinanet-resnet50"):
            assert made.apply(base, {"model": model}) == TrialConfig(model=model)
    given = made.apply(TrialConfig(learning_rate=3e-4, backbone_lr_factor=0.1), {"model": "retinanet-resnet50"})
    assert (given.learning_rate, given.backbone_lr_factor) == (3e-4, 0.1)
    with_rate = space(
        "model: {type: categorical, choices: [dense-tiny, fcos-resnet50]}\n"
        "learning_rate: {type: float, low: 1e-4, high: 1e-1, when: {model: fcos-resnet50}}\n"
    )
    sampled = with_rate.apply(BASE, {"model": "fcos-resnet50", "learning_rate": 2e-3})
    assert (sampled.learning_rate, sampled.backbone_lr_factor) == (2e-3, 1.0)


def test_a_fixed_model_has_its_own_rates_in_the_default_config() -> None:
    rate = "learning_rate: {type: float, low: 1e-5, high: %s, log: true}\n"
    fixed = "model: fasterrcnn-resnet50\n"
    own = TrialConfig(model="fasterrcnn-resnet50")
    for high in ("1e-2", "1e-3"):
        for text in (fixed + rate % high, rate % high + fixed):
            assert space(text).params_of(BASE) == {"learning_rate": 2e-4}
            assert space(text).default_config(BASE) == own
    made = space(fixed + rate % "1e-2")
    assert made.params_of(TrialConfig(learning_rate=3e-4)) == {"learning_rate": 3e-4}
    assert made.params_of(own.model_copy(update={"learning_rate": 2e-3})) == {"learning_rate": 2e-3}
    with pytest.raises(ConfigError, match=r"learning_rate = 0\.0002 lies outside"):
        space(fixed + rate.replace("1e-5", "1e-3") % "1e-2").params_of(own)


def test_a_fixed_model_has_its_own_rates_where_its_conditions_hold() -> None:
    made = space(
        "learning_rate: {type: float, low: 1e-5, high: 1e-2, log: true}\n"
        "model: {type: fixed, value: fasterrcnn-resnet50, when: {schedule: step}}\n"
        "schedule: {type: categorical, choices: [cosine, step]}\n"
    )
    for schedule, rate in (("cosine", 2e-3), ("step", 2e-4)):
        config = TrialConfig(schedule=schedule)
        assert made.params_of(config) == {"learning_rate": rate, "schedule": schedule}


def test_an_optimizer_has_its_own_rate_unless_one_was_given() -> None:
    rate = "learning_rate: {type: float, low: 1e-4, high: %s, log: true}\n"
    assert TrialConfig(optimizer="sgd").learning_rate == 2e-2
    assert TrialConfig(optimizer="sgd", model="ssd300-vgg16").learning_rate == 2e-3
    assert space("optimizer: sgd\n").default_config(BASE).learning_rate == 2e-2
    assert space("optimizer: sgd\n" + rate % "1e-1").params_of(BASE) == {"learning_rate": 2e-2}
    assert space("optimizer: sgd\n" + rate % "1e-2").params_of(BASE) == {"learning_rate": 2e-3}
    assert space("optimizer: sgd\n").default_config(TrialConfig(learning_rate=3e-3)).learning_rate == 3e-3
    assert space("optimizer: adamw\n").default_config(TrialConfig(optimizer="sgd")).learning_rate == 2e-3


def test_a_sampled_optimizer_starts_with_the_base_and_brings_its_own_rate_where_none_is_sampled() -> None:
    alone = space("optimizer: {type: categorical, choices: [adamw, sgd]}\n")
    assert alone.default_config(BASE) == BASE
    assert [alone.apply(BASE, {"optimizer": name}).learning_rate for name in ("adamw", "sgd")] == [2e-3, 2e-2]
    both = space(
        "optimizer: {type: categorical, choices: [adamw, sgd]}\nlearning_rate: {type: float, low: 1e-4, high: 1e-1}\n"
    )
    assert both.params_of(BASE) == {"optimizer": "adamw", "learning_rate": 2e-3}
    assert both.apply(BASE, {"optimizer": "sgd", "learning_rate": 2e-3}).learning_rate == 2e-3


def test_a_stored_config_keeps_its_rate() -> None:
    stored = TrialConfig(optimizer="sgd", learning_rate=2e-3)  # the default as it was before each optimizer had its own
    assert TrialConfig.model_validate(stored.model_dump(mode="json")) == stored


def test_a_rate_that_the_space_of_a_fixed_model_holds_stays_where_the_models_own_lies_outside() -> None:
    made = space("model: fasterrcnn-resnet50\nlearning_rate: {type: float, low: 1e-3, high: 1e-2, log: true}\n")
    assert made.params_of(BASE) == {"learning_rate": 2e-3}
