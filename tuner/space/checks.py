"""Checks of a search space against `TrialConfig` and in itself; each raises `KeyProblem` with the key at fault."""

from __future__ import annotations

from collections.abc import Container, Mapping

from tuner.config.errors import nearest
from tuner.config.problems import KeyProblem
from tuner.space.dimension import (
    CategoricalDimension,
    Dimension,
    FixedDimension,
    FloatDimension,
)
from tuner.space.fields import FIXED_PER_STUDY, search_field, search_fields

SWEPT_FIELDS: dict[str, type[FloatDimension] | type[CategoricalDimension]] = {
    "tiles.size": CategoricalDimension,
    "tiles.overlap": CategoricalDimension,
    "nms": CategoricalDimension,
    "nms_iou": FloatDimension,
    "confidence": FloatDimension,
}
"""Post-processing, which changes nothing about the weights, so that one training judges all its values (decision 4);
with the kind of dimension that is swept."""


def check_dimension(name: str, dimension: Dimension) -> None:
    """Check that the field exists, that its type fits and that it takes every value of the dimension."""
    at = ("dimensions", name)
    if name in FIXED_PER_STUDY:
        raise KeyProblem(at, f"cannot be a dimension: {FIXED_PER_STUDY[name]}")
    field = search_field(name)
    if field is None:
        raise KeyProblem(at, f"no such field of a trial's config. {nearest(name, search_fields())}")
    if isinstance(dimension, FixedDimension):
        if problem := field.problem(dimension.value):
            raise KeyProblem((*at, "value"), problem)
    elif isinstance(dimension, CategoricalDimension):
        for choice in dimension.choices:
            if problem := field.problem(choice):
                raise KeyProblem((*at, "choices"), problem)
    else:
        if field.kind not in (int, float):
            raise KeyProblem((*at, "type"), f"{name} is not a number: use `type: categorical` with `choices`")
        if field.kind is int and isinstance(dimension, FloatDimension):
            raise KeyProblem((*at, "type"), f"{name} is a whole number: use `type: int`")
        for key in ("low", "high"):
            if problem := field.problem(getattr(dimension, key)):
                raise KeyProblem((*at, key), problem)
    _check_mode(name, dimension)


def _check_mode(name: str, dimension: Dimension) -> None:
    at = ("dimensions", name)
    if isinstance(dimension, FixedDimension):
        return
    if name not in SWEPT_FIELDS:
        if dimension.mode == "sweep":
            raise KeyProblem(
                (*at, "mode"),
                f"only {', '.join(SWEPT_FIELDS)} can be swept; {name} changes what is trained and is sampled",
            )
    elif dimension.mode != "sample":
        if not isinstance(dimension, SWEPT_FIELDS[name]):
            swept = "type: float, a range" if SWEPT_FIELDS[name] is FloatDimension else "type: categorical, choices"
            raise KeyProblem((*at, "type"), f"{name} is swept as `{swept}`; add `mode: sample` to sample it")
        for key in ("log", "step", "when"):
            if getattr(dimension, key, None):
                raise KeyProblem(
                    (*at, key),
                    f"means nothing where every value of {name} is judged by sweeping; add `mode: sample` to sample it",
                )


def check_conditions(name: str, dimensions: Mapping[str, Dimension], swept: Container[str]) -> None:
    """Check that the conditions of a dimension name other dimensions and values that these can have."""
    for other, allowed in dimensions[name].when.items():
        at = ("dimensions", name, "when", other)
        if other not in dimensions:
            raise KeyProblem(at, f"a condition on an unknown dimension. {nearest(other, dimensions)}")
        if other in swept:
            raise KeyProblem(at, f"{other} is swept after training, so nothing can depend on it")
        dimension = dimensions[other]
        for value in allowed:
            if not dimension.contains(value):
                wanted = f" {nearest(value, _texts(dimension))}" if isinstance(value, str) else ""
                raise KeyProblem(at, f"{other} is never {value!r}; it is {dimension}.{wanted}")


def check_steps(name: str, dimensions: Mapping[str, Dimension]) -> None:
    """Check that the conditions of a dimension name values that others have not by chance alone."""
    for other in dimensions[name].when:
        dimension = dimensions[other]
        if isinstance(dimension, FloatDimension) and dimension.step is None:
            raise KeyProblem(
                ("dimensions", name, "when", other),
                f"{other} is hardly ever a given value, as its range has no steps: give it a `step`, or name a "
                "dimension of `type: categorical` or `type: int`",
            )


def _texts(dimension: Dimension) -> list[str]:
    values = dimension.choices if isinstance(dimension, CategoricalDimension) else ()
    return [value for value in values if isinstance(value, str)]


def in_order(dimensions: Mapping[str, Dimension]) -> dict[str, Dimension]:
    """The dimensions, each after those that its conditions name, otherwise in the order of the file.

    Raises:
        KeyProblem: Conditions go round in a circle.
    """
    ordered: dict[str, Dimension] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            circle = " -> ".join((*path[path.index(name) :], name))
            raise KeyProblem(("dimensions", path[-1], "when", name), f"the conditions go round in a circle: {circle}")
        if name not in ordered:
            for other in dimensions[name].when:
                visit(other, (*path, name))
            ordered[name] = dimensions[name]

    for name in dimensions:
        visit(name, ())
    return ordered
