"""What a study optimises, checked and taken from `Metrics`."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from tuner.config.errors import ConfigError
from tuner.config.objective import AT_OPERATING_POINT, COST_NAMES, CRITERION, Constraint, Direction, Objective
from tuner.config.study import ObjectiveSpec, StudySpec
from tuner.evaluation import named
from tuner.evaluation.metrics import Metrics


def check_objective(spec: ObjectiveSpec) -> None:
    """Check the objective of a study.

    Raises:
        ConfigError: A metric is unknown, or the direction makes no sense for it.
    """
    try:
        objective = Objective.parse(spec.metric)
    except ConfigError as error:
        raise ConfigError(f"objective.metric: {error.message}", hint=error.hint) from None
    if spec.direction != objective.direction:
        better = "larger" if objective.direction == "maximize" else "smaller"
        raise ConfigError(
            f"objective.direction: {spec.metric} is better when it is {better}, but the direction is "
            f"{spec.direction!r}",
            hint=f"Write `direction: {objective.direction}`, or leave it out.",
        )


def check_search(spec: StudySpec) -> None:
    """Check that sampler and pruner can deal with several objectives, where there are several.

    Raises:
        ConfigError: They cannot.
    """
    if not spec.objectives:
        return
    if spec.sampler.name == "cmaes":
        raise ConfigError(
            "sampler.name: cmaes knows one objective, but the study has several",
            hint="Choose tpe, gp or random, or write a weighted sum as `objective`.",
        )
    if spec.pruner.name == "hyperband":
        raise ConfigError(
            "pruner.name: hyperband knows one objective, but the study has several",
            hint="Choose promote, median or none.",
        )


def objective_value(text: str, metrics: Metrics) -> float | None:
    """The value of an objective; None where it is undefined (no such ground truth, no operating point yet)."""
    return named.objective_value(Objective.parse(text), metrics)


def undefined(spec: StudySpec, metrics: Metrics, *, last: bool) -> str | None:
    """A metric that the study needs and that is undefined.

    What depends on the operating point and the cost must be known after the last epoch only.
    """
    for name in sorted(needed(spec)):
        if named.value_of(name, metrics) is None and (last or not _late(name)):
            return name
    return None


def _late(name: str) -> bool:
    """Whether a trainer may leave a metric out before the last epoch; the built-in one gives all after each."""
    return name in (*AT_OPERATING_POINT, "count_mae", *COST_NAMES) or CRITERION.fullmatch(name) is not None


def objective_values(spec: StudySpec, metrics: Metrics) -> list[float | None]:
    """The values that Optuna optimises: of all objectives."""
    return [objective_value(text, metrics) for text in spec.objectives or (spec.objective.metric,)]


def violations(constraints: Sequence[str], metrics: Metrics) -> dict[str, float]:
    """By how much each constraint is violated (0 or less: kept), of those whose metric is known."""
    found = {}
    for text in constraints:
        limit = Constraint.parse(text)
        value = named.value_of(limit.name, metrics)
        if value is not None:
            found[text] = limit.violation(value)
    return found


def feasible(spec: StudySpec, metrics: Metrics) -> bool:
    """Whether all constraints are known to be kept."""
    found = violations(spec.constraints, metrics)
    return all(text in found and found[text] <= 0 for text in spec.constraints)


def broken_on_average(spec: StudySpec, runs: Sequence[Metrics]) -> str:
    """Which constraints are not known to be kept by the means over some runs, with these means; empty: none."""
    over = " on average" if len(runs) > 1 else ""
    found = []
    for text in spec.constraints:
        limit = Constraint.parse(text)
        values = [value for metrics in runs if (value := named.value_of(limit.name, metrics)) is not None]
        if len(values) < len(runs):
            found.append(f"{text} (unknown)")
        elif limit.violation(mean := fmean(values)) > 0:
            found.append(f"{text} ({mean:.4g}{over})")
    return " and ".join(found)


def keeping(spec: StudySpec) -> str:
    """Which constraints a best trial keeps, to follow "no complete trial" in a message; empty without constraints."""
    return f" that keeps {' and '.join(spec.constraints)}" if spec.constraints else ""


def directions(spec: StudySpec) -> list[Direction]:
    """Of the values that Optuna optimises."""
    return [Objective.parse(text).direction for text in spec.objectives] or [spec.objective.direction]


def criteria_of(spec: StudySpec) -> tuple[str, ...]:
    """The operating criteria that a study needs the best value of, such as recall@precision=0.9."""
    return tuple(sorted(name for name in needed(spec) if CRITERION.fullmatch(name)))


def chosen_by(spec: StudySpec) -> str:
    """The objective that post-processing is chosen by: of several the first that is not about cost alone."""
    about_detections = (t for t in spec.objectives if not set(Objective.parse(t).names) <= set(COST_NAMES))
    return next(about_detections, spec.objective.metric)


def needs_cost(spec: StudySpec) -> bool:
    """Whether a study needs to know what an image costs."""
    return not needed(spec).isdisjoint(COST_NAMES)


def needed(spec: StudySpec) -> set[str]:
    """All metrics that objectives and constraints of a study are made of."""
    texts = (spec.objective.metric, *spec.objectives)
    return {name for text in texts for name in Objective.parse(text).names} | {
        Constraint.parse(text).name for text in spec.constraints
    }
