"""Reading search spaces: ready-made ones by name, files by path, or the dimensions themselves."""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tuner.config.errors import ConfigError, nearest
from tuner.config.load import is_path
from tuner.config.paths import expanded
from tuner.config.problems import KeyProblem, explain
from tuner.config.source import Section, parse_yaml, read_yaml, where
from tuner.space.dimension import CategoricalDimension, FixedDimension, FloatDimension, IntDimension
from tuner.space.fields import sections
from tuner.space.space import SearchSpace

_KINDS = {kind.model_fields["type"].default: kind for kind in (FloatDimension, IntDimension, CategoricalDimension,
                                                               FixedDimension)}  # fmt: skip


def load_space(source: str | dict[str, Any]) -> SearchSpace:
    """Read and check a search space.

    Args:
        source: Name of a ready-made space ("default"), path of a YAML file, or the dimensions themselves.

    Raises:
        ConfigError: Names the file, line and key of each problem.
    """
    if isinstance(source, str):
        if is_path(source):
            path = expanded(source)
            return _build(path.stem, read_yaml(path))
        return _build(source, ready_made(source))
    name = source.file.stem if isinstance(source, Section) else "inline"
    return _build(name, source)


def ready_made_names() -> list[str]:
    """Names of the spaces that come with the package."""
    folder = resources.files("tuner.search_spaces")
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def ready_made(name: str) -> Section:
    """The content of a ready-made space.

    Raises:
        ConfigError: There is none of that name.
    """
    if name not in ready_made_names():
        raise ConfigError(
            f"there is no ready-made search space {name!r}. {nearest(name, ready_made_names())}",
            hint="A file of your own is named by its path, with .yaml at the end.",
        )
    entry = resources.files("tuner.search_spaces") / f"{name}.yaml"
    return parse_yaml(entry.read_text(encoding="utf-8"), Path(f"search_spaces/{name}.yaml"))


def _build(name: str, source: Mapping[str, Any]) -> SearchSpace:
    origins = _dimensions(source, ())
    raw: dict[str, Any] = {}
    for dotted, keys in origins.items():
        node = _at(source, keys)
        raw[dotted] = _plain(node) if isinstance(node, Mapping) else {"type": "fixed", "value": node}
    try:
        return SearchSpace.model_validate({"name": name, "dimensions": raw})
    except ValidationError as error:
        raise _located(error, source, origins, raw) from None


def _dimensions(source: Mapping[str, Any], prefix: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Dotted name of each dimension, with the keys under which it stands: nested or dotted, as written."""
    found: dict[str, tuple[str, ...]] = {}
    for key, value in source.items():
        keys = (*prefix, key)
        dotted = ".".join(keys)
        if dotted in sections() and value is None:  # a section whose lines are all commented out
            continue
        inner = _dimensions(value, keys) if dotted in sections() and isinstance(value, Mapping) else {dotted: keys}
        for name, path in inner.items():
            if name in found:
                raise ConfigError(f"{where(source, path[len(prefix) :])}is given twice, nested and dotted")
            found[name] = path
    return found


def _at(source: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    return functools.reduce(operator.getitem, keys, source)


def _plain(node: Any) -> Any:
    return {key: _plain(value) for key, value in node.items()} if isinstance(node, Mapping) else node


def _located(
    error: ValidationError, source: Mapping[str, Any], origins: Mapping[str, tuple[str, ...]], raw: Mapping[str, Any]
) -> ConfigError:
    lines = []
    infinite = {problem["loc"][:2] for problem in error.errors() if problem["type"] == "finite_number"}
    for problem in error.errors():
        if problem["type"] != "finite_number" and problem["loc"][:2] in infinite:
            continue  # the other types that the value is none of either
        cause = problem.get("ctx", {}).get("error")
        path = [*problem["loc"], *(cause.keys if isinstance(cause, KeyProblem) else ())]
        name, keys = str(path[1]), [str(key) for key in path[2:]]
        if keys[:1] == [raw[name].get("type")] and keys[0] in _KINDS:  # pydantic names the kind of the dimension too
            del keys[0]
        if keys[:1] == ["when"]:
            keys = keys[:2]
        elif len(keys) > 1:  # the place in a list, or the type that was tried
            keys = keys[:1]
        if not isinstance(_at(source, origins[name]), Mapping):  # a plain value has no keys of its own
            keys = []
        place = where(source, (*origins[name], *keys))
        lines.append(place + _words(problem, raw[name], keys))
    return ConfigError("\n".join(dict.fromkeys(lines)))


def _words(problem: Any, raw: Mapping[str, Any], keys: list[str]) -> str:
    kinds = ", ".join(_KINDS)
    if problem["type"] == "union_tag_not_found":
        return f"`type` is missing: one of {kinds}"
    if problem["type"] == "union_tag_invalid":
        return f"type: {raw['type']!r} is not a type of dimension. {nearest(str(raw['type']), _KINDS)}"
    kind = _KINDS[raw["type"]]
    if problem["type"] == "extra_forbidden":
        return f"unknown key for `type: {raw['type']}`. {nearest(keys[-1], kind.model_fields)}"
    if isinstance(problem["input"], list) and kind is FixedDimension:
        return "a list is not a dimension: write {type: float, low: …, high: …} or {type: categorical, choices: […]}"
    if problem["type"] in ("float_type", "int_type", "string_type", "bool_type"):
        wanted = {"low": "a number", "high": "a number", "step": "a number", "log": "true or false"}.get(
            "".join(keys[:1]), "a number, text or truth value"
        )
        if keys[:1] and keys[0] in ("low", "high", "step") and kind is IntDimension:
            wanted = "a whole number"
        return f"should be {wanted}, found {problem['input']!r}"
    return explain(problem, None, tuple(keys))
