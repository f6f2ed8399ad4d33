"""Values of `Metrics` by name, for objectives and constraints (`tuner.config.objective` lists the names)."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter

from tuner.config.objective import AT_OPERATING_POINT, COCO_NAMES, COST_NAMES, CRITERION, Objective
from tuner.evaluation.metrics import Metrics

Value = Callable[[Metrics], float | None]


def _worst_class_map(metrics: Metrics) -> float | None:
    return min((value for value in metrics.class_map.values() if value is not None), default=None)


def _of(part: str, name: str) -> Value:
    """A value of a part of `Metrics` that may be missing."""

    def value(metrics: Metrics) -> float | None:
        found = getattr(metrics, part)
        return None if found is None else getattr(found, name)

    return value


VALUES: dict[str, Value] = {
    **{name: attrgetter(name) for name in COCO_NAMES},
    **{name: _of("operating_point", name) for name in AT_OPERATING_POINT},
    **{name: _of("cost", name) for name in COST_NAMES},
    "worst_class_map": _worst_class_map,
    "count_mae": attrgetter("count_mae"),
}


def value_of(name: str, metrics: Metrics) -> float | None:
    """One value; None where it is undefined or was not measured."""
    if CRITERION.fullmatch(name):
        return metrics.criteria.get(name)
    return VALUES[name](metrics)


def value_after_nms(objective: Objective, metrics: Metrics) -> float | None:
    """How good a suppression is for an objective, more being better: by its terms but for what an image costs."""
    terms = tuple(term for term in objective.terms if term[1] not in COST_NAMES)
    if not terms:
        return metrics.map
    value = objective_value(Objective(terms, objective.direction), metrics)
    return -value if value is not None and objective.direction == "minimize" else value


def objective_value(objective: Objective, metrics: Metrics) -> float | None:
    """The weighted sum; None where one of its terms is undefined."""
    total = 0.0
    for weight, name in objective.terms:
        value = value_of(name, metrics)
        if value is None:
            return None
        total += weight * value
    return total
