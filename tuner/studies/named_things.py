"""Checks of the values of a study that name things: detectors, anchor recipes and files of weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from tuner.config.errors import TunerError
from tuner.config.source import where
from tuner.config.study import StudySpec
from tuner.config.trial import TrialConfig
from tuner.config.weights import NAMED, require_file
from tuner.models.anchors import CUSTOM, recipe
from tuner.models.catalog import check_pretrained, family
from tuner.space.dimension import CategoricalDimension
from tuner.space.space import SearchSpace


def check_named_things(spec: StudySpec, space: SearchSpace, default: TrialConfig) -> None:
    """Check that everything is there which the default config or a choice of the space names.

    Args:
        spec: For the places in its file.
        space: The search space.
        default: The study's default config.

    Raises:
        ConfigError: There is no such detector or anchor recipe, or the detector has no pretrained weights; names file
            and line.
        WeightsError: There is no such file of weights; likewise.
    """
    checks: dict[str, Callable[[str], object]] = {
        "model": family,
        "anchors": _recipe,
        "weights": lambda name: _weights(name, default.model if "model" not in space.dimensions else None),
    }
    for field, check in checks.items():
        for name, place in _named(spec, space, default, field):
            try:
                check(name)
            except TunerError as error:
                message = error.message.removeprefix(f"{field}: ")
                raise type(error)(f"{place or f'{field}: '}{message}", hint=error.hint) from None


def _named(spec: StudySpec, space: SearchSpace, default: TrialConfig, field: str) -> Iterator[tuple[str, str]]:
    """The values that a field may have, each with its place in a file, empty where that is unknown."""
    yield getattr(default, field), where(spec.defaults, (field,)) if field in spec.defaults else ""
    dimension = space.dimensions.get(field)
    if isinstance(dimension, CategoricalDimension):
        place = where(spec.space, (field, "choices"))
        yield from ((str(choice), place) for choice in dimension.choices)


def _recipe(name: str) -> None:
    if name != CUSTOM:
        recipe(name)


def _weights(value: str, model: str | None) -> None:
    if value not in NAMED:
        require_file(Path(value))
    if model is not None:
        check_pretrained(model, value)
