"""`SearchSpace`: which configs a study may try, and how a trial chooses one of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self

from pydantic import ValidationInfo, model_validator

from tuner.config.base import Frozen, is_stored
from tuner.config.errors import ConfigError, nearest
from tuner.config.trial import TrialConfig
from tuner.space.checks import SWEPT_FIELDS, check_conditions, check_dimension, check_steps, in_order
from tuner.space.dimension import CategoricalDimension, Dimension, FixedDimension, FloatDimension, SampledDimension
from tuner.space.fields import get_value, with_values

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import BaseTrial

MOST_POINTS = 1000
"""A space of more points is not walked to its end."""

Choose = Callable[[str, SampledDimension], Any]
"""Gives the value of a sampled dimension, by its name."""


class SearchSpace(Frozen):
    """Dimensions by the dotted name of the `TrialConfig` field that each is about.

    A dimension whose conditions do not hold, and every field without a dimension, has the value of the
    default config. A condition on a dimension that is itself inactive does not hold. A fixed value holds
    for every trial, the default config included.

    The model is checked as a whole and goes to JSON and back (`model_dump_json`, `model_validate_json`), so
    that a study carries its space with it.
    """

    name: str
    dimensions: dict[str, Dimension]

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> Self:
        for name, dimension in self.dimensions.items():
            check_dimension(name, dimension)
        for name in self.dimensions:
            check_conditions(name, self.dimensions, self.swept)
            if not is_stored(info):
                check_steps(name, self.dimensions)
        in_order(self.dimensions)
        return self

    @property
    def swept(self) -> dict[str, FloatDimension | CategoricalDimension]:
        """The post-processing that is judged exactly at the end of a trial instead of sampled (decision 4)."""
        return {
            name: dimension
            for name, dimension in self.dimensions.items()
            if name in SWEPT_FIELDS
            and isinstance(dimension, FloatDimension | CategoricalDimension)
            and dimension.mode != "sample"
        }

    @property
    def sampled(self) -> dict[str, SampledDimension]:
        """The dimensions that Optuna samples, each after those that its conditions name."""
        return {
            name: dimension
            for name, dimension in in_order(self.dimensions).items()
            if not isinstance(dimension, FixedDimension) and name not in self.swept
        }

    def distributions(self) -> dict[str, BaseDistribution]:
        """The sampled dimensions in Optuna's terms; a trial holds those whose conditions hold there."""
        return {name: dimension.distribution() for name, dimension in self.sampled.items()}

    def suggest(self, trial: BaseTrial, base: TrialConfig) -> TrialConfig:
        """Let a trial choose a config, dimension by dimension.

        Args:
            trial: Optuna's trial; its parameters get the dotted names.
            base: The study's default config.

        Raises:
            InfeasibleConfig: The chosen values do not fit together; see there what a study does then.
        """
        return with_values(base, self._walk(lambda name, dimension: dimension.suggest(trial, name)))

    def apply(self, base: TrialConfig, params: Mapping[str, Any]) -> TrialConfig:
        """The config of a trial with these parameters; the inverse of `params_of`.

        Raises:
            ConfigError: A parameter is unknown, inactive, missing or outside its range.
            InfeasibleConfig: The values do not fit together.
        """
        left = dict(params)

        def take(name: str, dimension: SampledDimension) -> Any:
            if name not in left:
                raise ConfigError(f"the parameter {name} is missing; the space {self.name!r} has {name}: {dimension}")
            value = left.pop(name)
            if not dimension.contains(value):
                raise ConfigError(f"{name} = {value!r} lies outside the space {self.name!r}: {dimension}")
            return value

        values = self._walk(take)
        for name in left:
            if name in self.sampled:
                raise ConfigError(f"the parameter {name} is given, but its conditions do not hold")
            raise ConfigError(f"the space {self.name!r} has no parameter {name!r}", hint=nearest(name, self.sampled))
        return with_values(base, values)

    def contains(self, params: Mapping[str, Any]) -> bool:
        """Whether a trial could have exactly these parameters (their combination aside)."""
        found = self.params_among(params)
        return found is not None and found.keys() == params.keys()

    def params_among(self, values: Mapping[str, Any]) -> dict[str, Any] | None:
        """Those of some values that a trial of this space has; None where one is missing or out of range."""

        def take(name: str, dimension: SampledDimension) -> Any:
            if name not in values or not dimension.contains(values[name]):
                raise KeyError(name)
            return dimension.own_form(values[name])

        try:
            return self._sampled_values(take)
        except KeyError:
            return None

    def with_fixed(self, base: TrialConfig, given: Mapping[str, Any] | None = None) -> TrialConfig:
        """A config with some values replaced, and with the fixed values that hold for it then.

        A fixed model or optimizer brings its own rates for those of the base's (see `with_values`), but not where the
        space holds the latter alone: they must have been given, or a study was begun with them.

        Args:
            base: The config.
            given: Values by dotted name, which stay as they are.

        Raises:
            InfeasibleConfig: The values do not fit together.
        """
        chosen = dict(given or {})
        config = with_values(base, chosen)
        walked = self._walk(lambda name, dimension: get_value(config, name))
        fixed = {name: value for name, value in walked.items() if name not in self.sampled}
        found = with_values(base, chosen | fixed)
        kept = {
            name: get_value(config, name)
            for name, dimension in self.sampled.items()
            if dimension.contains(get_value(config, name)) and not dimension.contains(get_value(found, name))
        }
        return with_values(found, kept)

    def params_of(self, config: TrialConfig) -> dict[str, Any]:
        """The parameters of a trial that has this config, for enqueuing it.

        Fixed values replace those of the config (see `with_fixed`); thresholds that are swept are no parameters.

        Raises:
            ConfigError: The config lies outside a range; names both.
            InfeasibleConfig: With the fixed values it does not fit together.
        """
        config = self.with_fixed(config)

        def take(name: str, dimension: SampledDimension) -> Any:
            value = get_value(config, name)
            if not dimension.contains(value):
                raise ConfigError(
                    f"the config's {name} = {value!r} lies outside the search space {self.name!r}: {dimension}",
                    hint=f"Widen the space, or set {name} under `defaults` in the study file.",
                )
            return dimension.own_form(value)

        return self._sampled_values(take)

    def active(self, config: TrialConfig) -> dict[str, Any]:
        """The values that a config has for the sampled dimensions whose conditions hold there, in range or not."""
        return self._sampled_values(lambda name, dimension: get_value(config, name))

    def points(self, most: int = MOST_POINTS) -> list[dict[str, Any]] | None:
        """The parameters of all trials that there can be; None where they are more than `most`, or without end."""
        found: list[dict[str, Any]] = [{}]
        values: list[dict[str, Any]] = [{}]  # of sampled and fixed dimensions, which conditions may name
        for name, dimension in in_order(self.dimensions).items():
            if name in self.swept:
                continue
            choices = [dimension.value] if isinstance(dimension, FixedDimension) else dimension.points(most)
            if choices is None:
                return None
            grown = []
            for params, known in zip(found, values, strict=True):
                if not self._active(dimension, known):
                    grown.append((params, known))
                    continue
                for value in choices:
                    chosen = {} if isinstance(dimension, FixedDimension) else {name: value}
                    grown.append((params | chosen, known | {name: value}))
                if len(grown) > most:
                    return None
            found, values = [params for params, _ in grown], [known for _, known in grown]
        return found

    def part(self, names: Iterable[str]) -> Self:
        """The space of some dimensions alone, with those that their conditions name."""
        left, kept = [name for name in names if name in self.dimensions], set[str]()
        while left:
            name = left.pop()
            kept.add(name)
            left += self.dimensions[name].when
        return self.model_copy(update={"dimensions": {n: d for n, d in self.dimensions.items() if n in kept}})

    def default_config(self, base: TrialConfig) -> TrialConfig:
        """The config of the first trial: `base`, with the fixed values of the space.

        Raises:
            ConfigError: `base` lies outside a range.
            InfeasibleConfig: With the fixed values it does not fit together.
        """
        return self.apply(base, self.params_of(base))

    def _sampled_values(self, choose: Choose) -> dict[str, Any]:
        """Those that `_walk` gives of the sampled dimensions alone."""
        sampled = self.sampled
        return {name: value for name, value in self._walk(choose).items() if name in sampled}

    def _walk(self, choose: Choose) -> dict[str, Any]:
        """The values of all active dimensions, sampled ones from `choose(name, dimension)`."""
        values: dict[str, Any] = {}
        swept = self.swept
        for name, dimension in in_order(self.dimensions).items():
            if name in swept or not self._active(dimension, values):
                continue
            values[name] = dimension.value if isinstance(dimension, FixedDimension) else choose(name, dimension)
        return values

    def _active(self, dimension: Dimension, values: Mapping[str, Any]) -> bool:
        """Whether the conditions of a dimension hold, given the values of those that it names."""
        return all(other in values and _holds(values[other], allowed) for other, allowed in dimension.when.items())


def _holds(value: Any, allowed: tuple[Any, ...]) -> bool:
    """Whether a value is one of those that a condition allows, up to the rounding of Optuna's grids of floats."""
    return any(
        FixedDimension(value=one).contains(value)
        or (isinstance(value, float) and isinstance(one, int | float) and math.isclose(value, one, rel_tol=1e-9))
        for one in allowed
    )


def same_params(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether two trials have the same parameters, up to the rounding of floats."""
    return a.keys() == b.keys() and all(
        math.isclose(a[name], b[name], rel_tol=1e-9)
        if isinstance(a[name], float) and isinstance(b[name], float)
        else a[name] == b[name]
        for name in a
    )
