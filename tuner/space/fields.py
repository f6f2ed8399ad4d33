"""What a search space may say about each field of `TrialConfig`, read from the field's own definition."""

from __future__ import annotations

import functools
from typing import Annotated, Any, Literal, get_args, get_origin

import annotated_types
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from tuner.config.trial import TrialConfig

FIXED_PER_STUDY = {
    "epochs": "all trials of a study have the same number of epochs, since pruning compares them epoch by epoch; "
    "set it under `defaults`",
    "anchor_sizes": "it holds the anchors that a recipe made; search `anchors`, the recipes, instead",
}
"""Fields that no dimension may have, with the reason."""


class SearchField:
    """One field of `TrialConfig` by its dotted name.

    Attributes:
        name: Dotted name, such as "augment.mosaic".
        kind: Type of its values.
    """

    def __init__(self, name: str, info: FieldInfo) -> None:
        self.name = name
        annotation: Any = info.annotation
        self.kind: type = type(get_args(annotation)[0]) if get_origin(annotation) is Literal else annotation
        self._limits = [m for m in info.metadata if isinstance(m, annotated_types.BaseMetadata)]
        self._adapter: TypeAdapter[Any] = TypeAdapter(
            Annotated[(annotation, *info.metadata, Field())], config=ConfigDict(strict=True, allow_inf_nan=False)
        )

    def problem(self, value: Any) -> str | None:
        """Why the field refuses the value, in words; None where it takes it."""
        try:
            self._adapter.validate_python(value)
        except ValidationError as error:
            return f"{value!r} is not valid for {self.name}: {error.errors()[0]['msg'].replace('Input s', 's')}"
        return None

    @property
    def limits(self) -> str:
        """The field's valid range, such as "> 0 and <= 10"; empty where it has none."""
        signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
        parts = [
            f"{sign} {getattr(limit, name):g}"
            for limit in self._limits
            for name, sign in signs.items()
            if hasattr(limit, name)
        ]
        return " and ".join(parts)


@functools.cache
def search_fields() -> dict[str, SearchField]:
    """Every field of `TrialConfig` that a dimension may have, by its dotted name."""
    return {name: SearchField(name, info) for name, info in _leaves(TrialConfig, "") if name not in FIXED_PER_STUDY}


@functools.cache
def sections() -> frozenset[str]:
    """Names of the fields of `TrialConfig` that hold further fields, such as "augment"."""
    return frozenset(name.rpartition(".")[0] for name, _ in _leaves(TrialConfig, "") if "." in name)


def _leaves(model: type[BaseModel], prefix: str) -> list[tuple[str, FieldInfo]]:
    leaves: list[tuple[str, FieldInfo]] = []
    for name, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            leaves += _leaves(info.annotation, f"{prefix}{name}.")
        else:
            leaves.append((prefix + name, info))
    return leaves


def get_value(config: BaseModel, name: str) -> Any:
    """The value of a field of a config, or of what holds some of its fields, by its dotted name."""
    return functools.reduce(getattr, name.split("."), config)
