"""The fields of `TrialConfig` by dotted name: what a search space may say about each, and configs with other values."""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args, get_origin

import annotated_types
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from tuner.config.errors import ConfigError
from tuner.config.trial import TrialConfig

FIXED_PER_STUDY = {
    "epochs": "all trials of a study have the same number of epochs, since pruning compares them epoch by epoch; "
    "set it under `defaults`",
    "anchor_sizes": "it holds the anchors that a recipe made; search `anchors`, the recipes, instead",
}
"""Fields that no dimension may have, with the reason."""
_ANCHORS_DEPEND_ON = ("model", "image_size", "anchors")
_DERIVED = tuple(name for name, info in TrialConfig.model_fields.items() if info.default_factory is not None)
_DERIVED_FROM = ("model", "optimizer")
"""Fields whose default each model and optimizer has of its own."""


class InfeasibleConfig(ConfigError):
    """A point of the space whose values do not fit together, such as a warm-up longer than the training.

    Ranges are checked one by one when a space is loaded; combinations can be judged only when a trial has
    chosen them. A study tells such a trial as pruned with a violated constraint, without training it, so that
    the sampler learns the border (as with out-of-memory, decision 8); clipping the value instead would store
    a parameter that was not used.
    """


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
            first = error.errors()[0]
            if first["type"].startswith(("greater_than", "less_than")):
                return f"{value!r} lies outside the valid range of {self.name}, which is {self.limits}"
            cause = first.get("ctx", {}).get("error")
            return f"{value!r} is not valid for {self.name}: {cause or first['msg'].replace('Input s', 's')}"
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


def with_values(config: TrialConfig, values: Mapping[str, Any]) -> TrialConfig:
    """A config with the values of some fields, by their dotted names, replaced.

    What has the default of the config's model and optimizer takes that of the new ones where they change. Anchors that
    were made for another network or canvas, or by another recipe, are left out, to be made anew.

    Raises:
        InfeasibleConfig: The values do not fit together.
    """
    data = config.model_dump()
    if any(values.get(name, data[name]) != data[name] for name in _DERIVED_FROM):
        own = TrialConfig(**{name: data[name] for name in _DERIVED_FROM})
        data = {name: value for name, value in data.items() if name not in _DERIVED or value != getattr(own, name)}
    for name, value in values.items():
        *parents, last = name.split(".")
        functools.reduce(operator.getitem, parents, data)[last] = value
    if data["anchors"] != "custom" and any(data[name] != getattr(config, name) for name in _ANCHORS_DEPEND_ON):
        data["anchor_sizes"] = None
    try:
        return TrialConfig.model_validate(data)
    except ValidationError as error:
        reasons = "; ".join(str(p.get("ctx", {}).get("error", p["msg"])) for p in error.errors())
        raise InfeasibleConfig(f"the values of this point do not fit together: {reasons}") from None
