"""The fields of `TrialConfig` by dotted name: what a search space may say about each, and configs with other values."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast, get_args, get_origin

import annotated_types
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from tuner.config.errors import ConfigError
from tuner.config.trial import Own, TrialConfig

OWN = "own."
"""What the names of a trainer's own hyperparameters begin with (`tuner.config.trial.Own`)."""
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


class OwnField:
    """A hyperparameter of a trainer of the user's own, which may have any value.

    Attributes:
        name: Dotted name, such as "own.box_gain".
        kind: Type of its values.
    """

    kind: type = float

    def __init__(self, name: str) -> None:
        self.name = name

    def problem(self, value: Any) -> str | None:
        """Why there can be no such hyperparameter, in words; None where there can."""
        return Own.problem(self.name.removeprefix(OWN), value)


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
    """Every field of `TrialConfig` that a dimension may have, by its dotted name; `own` has further ones."""
    return {name: SearchField(name, info) for name, info in _leaves(TrialConfig, "") if name not in FIXED_PER_STUDY}


def search_field(name: str) -> SearchField | OwnField | None:
    """The field that a dimension of this dotted name is about; None where there is none."""
    return OwnField(name) if name.startswith(OWN) else search_fields().get(name)


@functools.cache
def sections() -> frozenset[str]:
    """Names of the fields of `TrialConfig` that hold further fields, such as "augment"."""
    return frozenset(name for name, info in TrialConfig.model_fields.items() if _is_section(info))


def _is_section(info: FieldInfo) -> bool:
    return isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel)


def _leaves(model: type[BaseModel], prefix: str) -> list[tuple[str, FieldInfo]]:
    leaves: list[tuple[str, FieldInfo]] = []
    for name, info in model.model_fields.items():
        if _is_section(info):
            leaves += _leaves(cast("type[BaseModel]", info.annotation), f"{prefix}{name}.")
        else:
            leaves.append((prefix + name, info))
    return leaves


def has_value(config: BaseModel, name: str) -> bool:
    """Whether a config has a value of a dotted name: what is `own.` to one study, another may not know."""
    return not (name.startswith(OWN) and isinstance(config, TrialConfig)) or name.removeprefix(OWN) in config.own.values


def get_value(config: BaseModel, name: str) -> Any:
    """The value of a field of a config, or of what holds some of its fields, by its dotted name.

    Raises:
        ConfigError: A hyperparameter of a trainer of the user's own has no value in the config.
    """
    if not has_value(config, name):
        raise ConfigError(
            f"{name} is a dimension of the search space, but the default config has no value for it",
            hint=f"The first trial is the default config: give `{name}` a value under `defaults` in the study file.",
        )
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
        functools.reduce(lambda inner, key: inner.setdefault(key, {}), parents, data)[last] = value
    if data["anchors"] != "custom" and any(data[name] != getattr(config, name) for name in _ANCHORS_DEPEND_ON):
        data["anchor_sizes"] = None
    try:
        return TrialConfig.model_validate(data)
    except ValidationError as error:
        reasons = "; ".join(str(p.get("ctx", {}).get("error", p["msg"])) for p in error.errors())
        raise InfeasibleConfig(f"the values of this point do not fit together: {reasons}") from None
