"""Checks of the values of a study that name things: detectors, anchor recipes and sets, and files of weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tuner.config.errors import ConfigError, TunerError
from tuner.config.load import base_config
from tuner.config.source import where
from tuner.config.study import StudySpec
from tuner.config.trial import TrialConfig
from tuner.config.weights import NAMED, require_weights
from tuner.models.anchors import CUSTOM, check_given, recipe
from tuner.models.catalog import check_pretrained, family
from tuner.space.dimension import CategoricalDimension
from tuner.space.fields import InfeasibleConfig
from tuner.space.space import SearchSpace

_FIELDS = ("model", "weights", "anchors")
"""What goes together, or not."""


def check_named_things(spec: StudySpec, space: SearchSpace, default: TrialConfig) -> None:
    """Check that everything is there which the default config or a choice of the space names, and that it fits.

    Args:
        spec: For the places in its file.
        space: The search space.
        default: The study's default config.

    Raises:
        ConfigError: There is no such detector or anchor recipe, a detector has no pretrained weights, or the given
            anchors do not fit it; names file and line, or the choices that do not go together.
        WeightsError: There is no such file of weights, or it holds something else; likewise.
    """
    checks: dict[str, Callable[[str], object]] = {"model": family, "anchors": _recipe, "weights": _weights}
    for field, check in checks.items():
        for name, place in _named(spec, space, default, field):
            with _placed(field, place):
                check(name)
    with _placed("weights", _place(spec, "weights")):
        check_pretrained(default.model, default.weights)
    field = "anchors" if default.anchor_sizes is None else "anchor_sizes"
    with _placed(field, _place(spec, field)):
        check_given(default)
    for chosen, config in _combinations(space, base_config(spec)):
        try:
            check_pretrained(config.model, config.weights)
            check_given(config)
        except ConfigError as error:
            place = where(spec.space, (next(iter(chosen)), "choices"))
            values = ", ".join(f"{name} = {value!r}" for name, value in chosen.items())
            hint = "Take one of them out of the space, or give it a condition (`when`)."
            raise ConfigError(f"{place}{values} cannot be trained: {error.message}", hint=hint) from None


def _combinations(space: SearchSpace, base: TrialConfig) -> Iterator[tuple[dict[str, Any], TrialConfig]]:
    """What is sampled of the fields that must fit together, and a config with it, for all that trials may have.

    None where conditions make them depend on more values than `SearchSpace.points` lists.
    """
    part = space.part(_FIELDS)
    for params in part.points() or ():
        chosen = {name: params[name] for name in _FIELDS if name in params}
        if chosen:
            with suppress(InfeasibleConfig):
                yield chosen, part.apply(base, params)


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
    yield getattr(default, field), _place(spec, field)
    dimension = space.dimensions.get(field)
    if isinstance(dimension, CategoricalDimension):
        place = where(spec.space, (field, "choices"))
        yield from ((str(choice), place) for choice in dimension.choices)


def _place(spec: StudySpec, field: str) -> str:
    """The place of a field of the default config in the study file, empty where that is unknown."""
    return where(spec.defaults, (field,)) if field in spec.defaults else ""


def _recipe(name: str) -> None:
    if name != CUSTOM:
        recipe(name)


def _weights(value: str) -> None:
    if value not in NAMED:
        require_weights(Path(value))
