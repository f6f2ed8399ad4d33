"""The language of objectives and constraints: names of metrics, weighted sums of them, and limits.

Only text is dealt with here; `tuner.evaluation.named` knows where the values are.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from tuner.config.errors import ConfigError, nearest

Direction = Literal["maximize", "minimize"]

COCO_NAMES = (
    "map",
    "map50",
    "map75",
    "map_small",
    "map_medium",
    "map_large",
    "ar1",
    "ar10",
    "ar100",
    "ar_small",
    "ar_medium",
    "ar_large",
)
AT_OPERATING_POINT = ("f1", "precision", "recall")
COST_NAMES = (
    "latency_ms",
    "latency_p90_ms",
    "batch_latency_ms",
    "parameters",
    "multiply_adds",
    "inference_memory_mb",
)
"""What an image costs; each is better when smaller (`tuner.evaluation.cost`)."""

MAXIMISED = (*COCO_NAMES, "worst_class_map", *AT_OPERATING_POINT)
MINIMISED = ("count_mae", *COST_NAMES)
CRITERION = re.compile(r"(recall)@(precision)=(\d*\.?\d+)|(precision)@(recall)=(\d*\.?\d+)")
"""Names such as recall@precision=0.9: the best recall at which the precision is at least 0.9."""

_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_TERM = re.compile(rf"\s*([+-]?)\s*(?:({_NUMBER})\s*\*\s*)?([A-Za-z_]\w*(?:@\w+=[\d.]+)?)\s*")
_LIMIT = re.compile(rf"\s*([A-Za-z_]\w*(?:@\w+=[\d.]+)?)\s*(<=|>=)\s*(-?{_NUMBER})\s*")


@dataclass(frozen=True)
class Objective:
    """A weighted sum of metrics, most often of one.

    Attributes:
        terms: Weight and name of each.
        direction: In which it is better.
    """

    terms: tuple[tuple[float, str], ...]
    direction: Direction

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics that it needs."""
        return tuple(name for _, name in self.terms)

    def __str__(self) -> str:
        """One spelling for all sums of the same terms, the heaviest first; can be parsed."""
        ordered = sorted(self.terms, key=lambda term: (-abs(term[0]), -term[0], term[1]))
        text = " ".join(f"{'-' if weight < 0 else '+'} {_factor(abs(weight))}{name}" for weight, name in ordered)
        return text[2:] if text[0] == "+" else f"-{text[2:]}"

    @classmethod
    def parse(cls, text: str) -> Objective:
        """Read `map50`, `recall@precision=0.9` or `0.7*map + 0.3*f1`.

        Raises:
            ConfigError: It is no such sum, a metric is unknown, a weight is not finite, or one term gains by what costs
                another.
        """
        return _parse(text)


@dataclass(frozen=True)
class Constraint:
    """A limit on one metric.

    Attributes:
        name: The metric.
        at_most: Whether the limit is an upper one.
        limit: Its value, itself allowed.
    """

    name: str
    at_most: bool
    limit: float

    def __str__(self) -> str:
        """One spelling for all that say the same; can be parsed."""
        return f"{self.name} {'<=' if self.at_most else '>='} {_number(self.limit)}"

    @classmethod
    def parse(cls, text: str) -> Constraint:
        """Read `latency_ms <= 20` or `map50 >= 0.5`.

        Raises:
            ConfigError: It is no such limit, the metric is unknown, or the number is not finite.
        """
        found = _LIMIT.fullmatch(text)
        if found is None:
            raise ConfigError(
                f"constraint {text!r} is not of the form METRIC <= NUMBER or METRIC >= NUMBER",
                hint="For example: latency_ms <= 20",
            )
        name, sign, limit = found.groups()
        direction_of(name)
        return cls(name, sign == "<=", _finite(limit, text))

    def violation(self, value: float) -> float:
        """By how much a value is beyond the limit; 0 or less where it is not."""
        return value - self.limit if self.at_most else self.limit - value


def direction_of(name: str) -> Direction:
    """In which direction one metric is better.

    Raises:
        ConfigError: There is no such metric.
    """
    if name in MINIMISED:
        return "minimize"
    if name in MAXIMISED:
        return "maximize"
    found = CRITERION.fullmatch(name)
    if found is not None and 0.0 <= float(found[3] or found[6]) <= 1.0:
        return "maximize"
    if "@" in name:
        raise ConfigError(
            f"there is no metric {name!r}", hint="Write recall@precision=X or precision@recall=X with X in 0 … 1."
        )
    raise ConfigError(f"there is no metric {name!r}. {nearest(name, (*MAXIMISED, *MINIMISED))}")


@lru_cache
def _parse(text: str) -> Objective:
    terms: list[tuple[float, str]] = []
    place = 0
    while place < len(text) or not terms:
        found = _TERM.match(text, place)
        if found is None or (terms and not found[1]):
            raise ConfigError(
                f"objective {text!r} is not understood from {text[place:]!r} on",
                hint="Write the name of a metric, or a weighted sum such as 0.7*map + 0.3*f1.",
            )
        sign, weight, name = found.groups()
        terms.append(((-1.0 if sign == "-" else 1.0) * _finite(weight or "1", text), name))
        place = found.end()
    names = [name for _, name in terms]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"objective {text!r} names {twice} twice", hint="Write one term for each metric.")
    ways = {name: _way(weight, direction_of(name)) for weight, name in terms}
    if 0 in ways.values():
        raise ConfigError(f"objective {text!r} has a weight of 0", hint="Leave that term out.")
    if len(set(ways.values())) > 1:
        gain, loss = (next(name for name, way in ways.items() if way == w) for w in (1, -1))
        raise ConfigError(
            f"objective {text!r} wants a better {gain} and a worse {loss}, or the reverse",
            hint=f"{loss} is better when it is {'smaller' if loss in MINIMISED else 'larger'}: turn its sign.",
        )
    return Objective(tuple(terms), "maximize" if set(ways.values()) == {1} else "minimize")


def _finite(number: str, text: str) -> float:
    if math.isinf(float(number)):
        raise ConfigError(f"{number} in {text!r} is too large a number", hint="Write one below 1e308.")
    return float(number)


def _way(weight: float, direction: Direction) -> int:
    """1 where the sum grows as the metric gets better, -1 where it falls, 0 where it does neither."""
    return (weight > 0) - (weight < 0) if direction == "maximize" else (weight < 0) - (weight > 0)


def _factor(weight: float) -> str:
    return "" if weight == 1 else f"{_number(weight)}*"


def _number(value: float) -> str:
    return repr(value).removesuffix(".0")
