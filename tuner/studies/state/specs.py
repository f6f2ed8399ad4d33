"""Specs as a study keeps them, and what differs between two."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from tuner.config.load import base_config
from tuner.config.study import StudySpec
from tuner.space.space import SearchSpace

_MAY_CHANGE = ("budget", "plan", "pruner", "priority", "keep", "slots", "device", "storage", "data.root", "space")
"""Parts of a spec that leave finished trials valid. The space is compared as what it resolves to."""


def canonical(spec: StudySpec) -> StudySpec:
    """The spec with all defaults spelled out, so that it means the same to a later version of this package."""
    defaults = base_config(spec).model_dump(mode="json")
    if defaults["anchor_sizes"] is None:  # they are made for each trial, and older studies name none
        del defaults["anchor_sizes"]
    return spec.model_copy(update={"defaults": defaults})


def stored(spec: StudySpec) -> dict[str, Any]:
    """The canonical spec for the database: without the database's own URL, whose password must not be stored."""
    data: dict[str, Any] = canonical(spec).model_dump(mode="json", exclude={"storage"})
    return data


def digest(spec: StudySpec, space: SearchSpace) -> str:
    """SHA-256 (hex) of what makes a study; equal for specs without `differences`."""
    text = json.dumps(_fields(spec, space), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def differences(old: StudySpec, old_space: SearchSpace, new: StudySpec, new_space: SearchSpace) -> list[str]:
    """What makes another study of a spec, as "field: old -> new"; empty where trials of both can be compared."""
    before, after = _fields(old, old_space), _fields(new, new_space)
    return [
        f"{name}: {_text(before.get(name))} -> {_text(after.get(name))}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def _fields(spec: StudySpec, space: SearchSpace) -> dict[str, Any]:
    fields = _flat(canonical(spec).model_dump(mode="json"), "")
    kept = {n: v for n, v in fields.items() if not any(n == part or n.startswith(part + ".") for part in _MAY_CHANGE)}
    for name, dimension in space.dimensions.items():
        kept[f"space.{name}"] = dimension.model_dump(mode="json", exclude_defaults=True, exclude={"type"}) | {
            "type": dimension.type
        }
    return kept


def _flat(node: Any, name: str) -> dict[str, Any]:
    if not isinstance(node, dict) or not node:
        return {name: node}
    return {
        key: value
        for child in node
        for key, value in _flat(node[child], f"{name}.{child}" if name else str(child)).items()
    }


def _text(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False)
