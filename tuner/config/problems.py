"""Problems that pydantic finds, in words, with file, line and key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from tuner.config.counts import MAX_COUNT
from tuner.config.errors import ConfigError, nearest
from tuner.config.source import where


class KeyProblem(ValueError):
    """A problem with a key deeper in a model than the validator that found it.

    Args:
        keys: Path of the key from the model that is being validated.
        message: What is wrong with it.
    """

    def __init__(self, keys: tuple[str, ...], message: str) -> None:
        super().__init__(message)
        self.keys = keys


def located(error: ValidationError, data: Any, model: type[BaseModel], *, under: tuple[str, ...] = ()) -> ConfigError:
    """A `ConfigError` that names file, line and key of each problem that pydantic found in `data`.

    Args:
        error: What `model.model_validate(data)` raised.
        data: The data as read, `Section`s where they come from a file.
        model: The model, for the names that would have been right.
        under: Keys that lead to `data` in the file, for the message.
    """
    lines = []
    for problem in error.errors():
        if problem["type"] == "default_factory_not_called":  # a default that hangs on a field with a problem of its own
            continue
        found = problem.get("ctx", {}).get("error")
        inner = found.keys if isinstance(found, KeyProblem) else ()
        keys = _real_keys(data, tuple(problem["loc"]) + inner)
        place = where(data, keys)
        if under:  # `where` names the keys from `data` on, at the end
            name = ".".join(map(str, keys))
            place = place.removesuffix(f"{name}: " if name else "") + f"{'.'.join(map(str, under + keys))}: "
        lines.append(place + explain(problem, model, keys))
    return ConfigError("\n".join(dict.fromkeys(lines)))


def _real_keys(data: Any, keys: tuple[Any, ...]) -> tuple[Any, ...]:
    """The keys without those that pydantic adds for the members of a union that it tried."""
    node = data
    for depth, key in enumerate(keys):
        if isinstance(node, Mapping):
            node = node.get(key)
        elif isinstance(node, list) and isinstance(key, int) and key < len(node):
            node = node[key]
        else:
            return keys[:depth]
    return keys


def explain(problem: Any, model: type[BaseModel] | None, keys: tuple[Any, ...]) -> str:
    """One problem of a pydantic `ValidationError` in words, with the value that was found."""
    if problem["type"] == "extra_forbidden":
        names = _field_names(model, keys[:-1]) if model else []
        return f"unknown key. {nearest(str(keys[-1]), names)}" if names else "unknown key"
    if problem["type"] == "missing":
        return "is missing"
    if isinstance(problem.get("ctx", {}).get("error"), ValueError):
        return str(problem["ctx"]["error"])
    found = problem["input"]
    if problem["type"] in ("model_type", "model_attributes_type", "dict_type"):
        first = (_field_names(model, keys) if model else [])[:1]
        such = f" such as {first[0]}: {found}" if first and isinstance(found, str | int | float) else ""
        return f"should be a mapping of keys to values{such}, found {found!r}"
    if problem["type"] == "string_pattern_mismatch":  # of a study's name, the only text with a pattern
        return f"should be letters, digits, '.', '_' and '-' alone, as in cells-2, found {found!r}"
    if problem["type"] == "string_type":
        quoted = f": write it in quotes, {str(found)!r}" if keys == ("name",) and isinstance(found, int | float) else ""
        return f"should be a text, found {found!r}{quoted}"
    if problem["type"] == "tuple_type" and isinstance(found, str):
        return f"should be a list, as in [{found}]"
    if problem["type"] == "int_parsing_size":
        return f"should be a whole number between {-MAX_COUNT} and {MAX_COUNT}, found {found!r}"
    if problem["type"] == "too_short":
        return "is empty, but needs at least one value"
    message = problem["msg"].replace("Input should", "should").replace("String should", "should")
    return f"{message}, found {found!r}" if isinstance(found, str | int | float | None) else message


def _field_names(model: type[BaseModel], keys: tuple[Any, ...]) -> list[str]:
    """Names of the fields of the model that `keys` lead to."""
    for key in keys:
        field = model.model_fields.get(str(key))
        kind = field.annotation if field else None
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            return []
        model = kind
    return list(model.model_fields)
