"""`Dimension`: what a search space says about one field of `TrialConfig`."""

from __future__ import annotations

import math
import sys
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, StrictBool, StrictFloat, StrictInt, model_validator

from tuner.config.base import Frozen, Value
from tuner.config.problems import KeyProblem

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import BaseTrial


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [value]


Conditions = dict[str, Annotated[tuple[Value, ...], BeforeValidator(_as_list), Field(min_length=1)]]
"""Names of other dimensions with the values that each may have; all must hold."""


class _Dimension(Frozen):
    when: Conditions = Field(
        default_factory=dict, description="the dimension is active only where each of these has one of these values"
    )


class FixedDimension(_Dimension):
    """One value for all trials, the default config's included; with `when`, for those where it holds."""

    type: Literal["fixed"] = "fixed"
    value: Value

    def contains(self, value: Any) -> bool:
        """Whether the dimension can take the value."""
        return _same(value, self.value)

    def __str__(self) -> str:
        return repr(self.value)


class _Searched(_Dimension):
    mode: Literal["sample", "sweep"] | None = Field(
        None, description="of post-processing: sweep (default) or sample; all others are sampled"
    )


class CategoricalDimension(_Searched):
    """One of several values, without an order."""

    type: Literal["categorical"] = "categorical"
    choices: tuple[Value, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _all_different(self) -> Self:
        for i, choice in enumerate(self.choices):
            if any(_same(choice, other) for other in self.choices[:i]):
                raise KeyProblem(("choices",), f"{choice!r} stands there twice")
        return self

    def contains(self, value: Any) -> bool:
        """Whether the dimension can take the value."""
        return any(_same(value, choice) for choice in self.choices)

    def own_form(self, value: Any) -> Any:
        """A value that it contains, as the choice itself."""
        return next(choice for choice in self.choices if choice == value)

    def distribution(self) -> BaseDistribution:
        """The dimension in Optuna's terms."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.choices)

    def points(self, most: float = math.inf) -> list[Any] | None:
        """All values; None where they are more than `most`."""
        return list(self.choices) if len(self.choices) <= most else None

    def suggest(self, trial: BaseTrial, name: str) -> Any:
        """Let a trial choose a value."""
        return trial.suggest_categorical(name, self.choices)

    def __str__(self) -> str:
        return f"one of {', '.join(map(repr, self.choices))}"


class _Range(_Searched):
    low: float
    high: float
    log: StrictBool = False
    step: float | None = None

    @model_validator(mode="after")
    def _range_holds_values(self) -> Self:
        for key in ("low", "high", "step"):
            if abs(getattr(self, key) or 0) > sys.float_info.max:
                raise KeyProblem(
                    (key,), f"should be at most {sys.float_info.max:g}, the largest number that a float holds"
                )
        if self.low >= self.high:
            raise KeyProblem(
                ("high",),
                f"the range {self.low:g} … {self.high:g} is empty: `high` must be greater than `low`"
                if self.low > self.high
                else f"the range holds {self.low:g} alone: write it as a fixed value",
            )
        if self.log and self.low <= 0:
            raise KeyProblem(("low",), f"a logarithmic range must start above 0, found {self.low:g}")
        if self.step is not None:
            if self.log:
                raise KeyProblem(("step",), "a range has either `log` or `step`, not both")
            if self.step <= 0:
                raise KeyProblem(("step",), f"must be greater than 0, found {self.step:g}")
            low, high, step = (Decimal(str(x)) for x in (self.low, self.high, self.step))
            try:
                remainder = (high - low) % step
            except InvalidOperation:  # more steps than Decimal can count
                raise KeyProblem(
                    ("step",),
                    f"{self.step:g} is too small for {self.low:g} … {self.high:g}: take a larger step, or none",
                ) from None
            if remainder:
                last = low + (high - low) // step * step
                raise KeyProblem(
                    ("step",),
                    f"{self.step:g} does not divide the range {self.low:g} … {self.high:g}: the last value on the "
                    f"grid is {float(last):g}, the next {float(last + step):g}; make one of them `high`",
                )
        return self

    def contains(self, value: Any) -> bool:
        """Whether the dimension can take the value."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if self.step is None:
            return self.low <= value <= self.high
        if not self.low - self.step < value < self.high + self.step:  # nor is any of that a number of steps: NaN, inf
            return False
        steps = (value - self.low) / self.step  # rounded, since Optuna's grid values are sums of floats
        return abs(steps - round(steps)) < 1e-8 and 0 <= round(steps) <= round((self.high - self.low) / self.step)

    def __str__(self) -> str:
        extra = " (log)" if self.log else f" in steps of {self.step:g}" if self.step is not None else ""
        return f"{self.low:g} … {self.high:g}{extra}"


class FloatDimension(_Range):
    """A range of numbers."""

    type: Literal["float"] = "float"
    low: StrictFloat | StrictInt
    high: StrictFloat | StrictInt
    step: StrictFloat | StrictInt | None = None

    def own_form(self, value: Any) -> float:
        """A value that it contains, as a float."""
        return float(value)

    def distribution(self) -> BaseDistribution:
        """The dimension in Optuna's terms."""
        from optuna.distributions import FloatDistribution

        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def points(self, most: float = math.inf) -> list[float] | None:
        """All values; None for a range without steps, and where they are more than `most`."""
        if self.step is None:
            return None
        count = round((self.high - self.low) / self.step) + 1
        if count > most:
            return None
        return [min(float(self.low + self.step * i), float(self.high)) for i in range(count)]

    def suggest(self, trial: BaseTrial, name: str) -> Any:
        """Let a trial choose a value."""
        return trial.suggest_float(name, self.low, self.high, log=self.log, step=self.step)


class IntDimension(_Range):
    """A range of whole numbers, both ends included."""

    type: Literal["int"] = "int"
    low: StrictInt
    high: StrictInt
    step: StrictInt | None = None

    def contains(self, value: Any) -> bool:
        """Whether the dimension can take the value."""
        return super().contains(value) and value == int(value)

    def own_form(self, value: Any) -> int:
        """A value that it contains, as an int."""
        return int(value)

    def distribution(self) -> BaseDistribution:
        """The dimension in Optuna's terms."""
        from optuna.distributions import IntDistribution

        return IntDistribution(self.low, self.high, log=self.log, step=self.step or 1)

    def points(self, most: float = math.inf) -> list[int] | None:
        """All values; None where they are more than `most`."""
        found = range(self.low, self.high + 1, self.step or 1)
        return list(found) if len(found) <= most else None

    def suggest(self, trial: BaseTrial, name: str) -> Any:
        """Let a trial choose a value."""
        return trial.suggest_int(name, self.low, self.high, log=self.log, step=self.step or 1)


Dimension = Annotated[
    FloatDimension | IntDimension | CategoricalDimension | FixedDimension, Field(discriminator="type")
]
SampledDimension = FloatDimension | IntDimension | CategoricalDimension


def _same(a: Any, b: Any) -> bool:
    """Equality that keeps True apart from 1, but not 1 from 1.0."""
    return isinstance(a, bool) == isinstance(b, bool) and bool(a == b)
