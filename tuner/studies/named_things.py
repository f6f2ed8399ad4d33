"""Checks of the values of a study that name things: detectors, anchor recipes and sets, and files of weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tuner.config.errors import TunerError
from tuner.config.source import where
from tuner.config.study import StudySpec
from tuner.config.trial import TrialConfig
from tuner.config.weights import NAMED, require_weights
from tuner.models.anchors import CUSTOM, check_given, recipe
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
        ConfigError: There is no such detector or anchor recipe, the detector has no pretrained weights, or the default
            anchors do not fit it; names file and line.
        WeightsError: There is no such file of weights, or it holds something else; likewise.
    """
    checks: dict[str, Callable[[str], object]] = {
        "model": family,
        "anchors": _recipe,
        "weights": lambda name: _weights(name, default.model if "model" not in space.dimensions else None),
    }
    for field, check in checks.items():
        for name, place in _named(spec, space, default, field):
            with _placed(field, place):
                check(name)
    field = "anchors" if default.anchor_sizes is None else "anchor_sizes"
    with _placed(field, where(spec.defaults, (field,)) if field in spec.defaults else ""):
        check_given(default)


@contextmanager
def _placed(field: str, place: str) -> Iterator[None]:
    """Have errors that begin with the name of a field begin with its place in a file, where that is known."""
    try:
        yield
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
        require_weights(Path(value))
    if model is not None:
        check_pretrained(model, value)
