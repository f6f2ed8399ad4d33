"""Objectives: one value of `Metrics`, by name. All are better when larger."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter

from tuner.config.errors import ConfigError, nearest
from tuner.config.study import ObjectiveSpec, PrunerSpec
from tuner.evaluation.metrics import Metrics

_COCO = (
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
"""Known after the last epoch only, when the operating point has been found."""


def _worst_class_map(metrics: Metrics) -> float | None:
    return min((value for value in metrics.class_map.values() if value is not None), default=None)


def _at_operating_point(name: str) -> Callable[[Metrics], float | None]:
    def value(metrics: Metrics) -> float | None:
        return None if metrics.operating_point is None else float(getattr(metrics.operating_point, name))

    return value


OBJECTIVES: dict[str, Callable[[Metrics], float | None]] = {
    **{name: attrgetter(name) for name in _COCO},
    **{name: _at_operating_point(name) for name in AT_OPERATING_POINT},
    "worst_class_map": _worst_class_map,
}


def check_objective(spec: ObjectiveSpec, pruner: PrunerSpec) -> None:
    """Check that a study can have this objective.

    Raises:
        ConfigError: The metric is unknown, the direction makes no sense for it, or it comes too late to prune by.
    """
    if spec.metric not in OBJECTIVES:
        raise ConfigError(f"objective.metric: there is no metric {spec.metric!r}. {nearest(spec.metric, OBJECTIVES)}")
    if spec.direction != "maximize":
        raise ConfigError(
            f"objective.direction: {spec.metric} is better when it is larger, but the direction is {spec.direction!r}",
            hint="Write `direction: maximize`, or leave it out.",
        )
    if spec.metric in AT_OPERATING_POINT and pruner.name != "none":
        raise ConfigError(
            f"objective.metric: {spec.metric} is known after the last epoch only, so the pruner {pruner.name!r} "
            "has nothing to judge trials by",
            hint="Write `pruner: {name: none}`, or choose an objective that each epoch has, such as map.",
        )


def objective_value(name: str, metrics: Metrics) -> float | None:
    """The value of an objective; None where it is undefined (no such ground truth, no operating point yet)."""
    return OBJECTIVES[name](metrics)
