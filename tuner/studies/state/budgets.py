"""Budgets of a study, counted in its database, so over all its workers and restarts.

They are looked at before a new trial is begun: trials that run then, and those that were interrupted, are still
finished. What trials cost counts from their first reported epoch on, and so do the runs of the default config with
other seeds, by which the noise is measured.

`no_gain` ends a study from which no gain is expected, by a plain rule: the last so many trials that were judged
(complete, paused or pruned) did not raise the best value, among those that keep the constraints, by more than its
noise. Noise is how much the value still changes from epoch to epoch at the end of training: the mean absolute change
over the last quarter of the epochs, of the median complete trial. A best value that rises by less cannot be told from
a lucky last epoch.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import Session

from tuner.config.study import StudySpec
from tuner.space.space import SearchSpace, same_params
from tuner.storage.tables import AttemptRow, EpochRow, TrialRow, now
from tuner.studies.search.plan import begin_until
from tuner.studies.state.current import repeats_of
from tuner.studies.state.records import UNCOUNTED, TrialState
from tuner.studies.state.results import best_numbers

_JUDGED = (TrialState.COMPLETE, TrialState.PAUSED, TrialState.PRUNED)
_CURVES = 20
"""Complete trials whose noise is measured: the latest ones."""


def spent(session: Session, study_id: int, spec: StudySpec) -> str | None:
    """Which budget is spent, for a reader, such as "30 of 30 trials"; None while all have something left."""
    budget = spec.budget
    counted = _counted(session, study_id)
    unit, seconds = ("hours", 3600) if (budget.wall_time or 0) >= 3600 else ("minutes", 60)
    wall_time = None if budget.wall_time is None else budget.wall_time / seconds
    limits: tuple[tuple[float | None, Callable[[], float], str], ...] = (
        (budget.trials, lambda: counted_trials(session, study_id), "trials"),
        (budget.epochs, lambda: _sum(session, counted, TrialRow.epochs), "epochs"),
        (budget.gpu_hours, lambda: _gpu_seconds(session, counted) / 3600, "GPU-hours"),
        (budget.cpu_hours, lambda: _sum(session, counted, TrialRow.cpu_seconds) / 3600, "hours of CPU time"),
        (wall_time, lambda: wall_seconds(session, counted) / seconds, f"{unit} of wall time"),
    )
    for limit, used, name in limits:
        if limit is not None and (amount := used()) >= limit:
            return f"{_short(amount)} of {_short(limit)} {name}"
    if spec.plan is not None and (took := wall_seconds(session, counted)) >= _begin_until(session, counted, spec):
        return f"{_short(took / 3600)} of {_short(spec.plan.hours)} hours; the rest is kept to finish and to confirm"
    if budget.no_gain is not None and (gained := _gain(session, study_id, spec)) is not None:
        gain, noise = gained
        if gain <= noise:
            return (
                f"the last {budget.no_gain} trials raised the best value by {gain:.4f}, within its noise of {noise:.4f}"
            )
    return None


def counted_trials(session: Session, study_id: int) -> int:
    """Trials that count for the budget, running ones included."""
    counted = (TrialRow.study_id == study_id, func.coalesce(TrialRow.kind, "").not_in(UNCOUNTED))
    return session.scalar(select(func.count()).select_from(TrialRow).where(*counted)) or 0


def walked(session: Session, study_id: int, space: SearchSpace) -> str | None:
    """That every config of a space was tried, for a reader; None while some are left, or where they have no end."""
    points = space.points()
    if points is None or untried(session, study_id, points):
        return None
    return f"all {len(points)} configs of the search space"


def untried(session: Session, study_id: int, points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those parameters that no trial of a study has, whatever became of it."""
    tried = session.scalars(select(TrialRow.params).where(TrialRow.study_id == study_id)).all()
    return [point for point in points if not any(same_params(point, other) for other in tried)]


def wall_seconds(session: Session, wanted: ColumnElement[bool]) -> float:
    """Seconds in which at least one of some trials ran; pauses in which no worker did are left out."""
    rows = session.execute(
        select(
            AttemptRow.started_at,
            func.coalesce(AttemptRow.ended_at, now()),
            AttemptRow.outcome,
            AttemptRow.seconds,
            TrialRow.lease_until,
        )
        .join(TrialRow, TrialRow.trial_id == AttemptRow.trial_id)
        .where(wanted)
    )
    spans = []
    for start, end, outcome, seconds, lease in rows:
        if outcome == "lost":  # that it was dead was noticed at any time later
            end = min(end, start + seconds)
        elif outcome is None:
            end = min(end, lease)
        spans.append((start, max(start, end)))
    return covered(spans)


def all_wall_seconds(session: Session, study_id: int) -> float:
    """Likewise of a study, with what its repeats with other seeds took."""
    ours = (study_id, repeats_of(session, study_id))
    return sum(wall_seconds(session, TrialRow.study_id == one) for one in ours if one is not None)


def _counted(session: Session, study_id: int) -> ColumnElement[bool]:
    """The trials whose cost counts: those of the study, and the runs of its default config with other seeds."""
    repeats = repeats_of(session, study_id)
    own = TrialRow.study_id == study_id
    return own if repeats is None else or_(own, and_(TrialRow.study_id == repeats, TrialRow.is_default))


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Length of the union of (start, end) spans."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def expected_gain(values: list[float], last: int, rising: bool) -> float | None:
    """How much the last so many values improved on the best of those before; None where there are none before."""
    if len(values) <= last:
        return None
    signed = values if rising else [-value for value in values]
    return max(0.0, max(signed[-last:]) - max(signed[:-last]))


def epoch_noise(curves: Iterable[list[float]]) -> float:
    """Mean absolute change from epoch to epoch over the last quarter of a curve, for the median curve."""
    ends = [curve[-max(2, 1 + len(curve) // 4) :] for curve in curves]
    steps = [statistics.fmean(abs(b - a) for a, b in pairwise(end)) for end in ends if len(end) > 1]
    return statistics.median(steps) if steps else 0.0


def _gain(session: Session, study_id: int, spec: StudySpec) -> tuple[float, float] | None:
    """Gain over the last trials, and noise; None while there are too few trials."""
    results = dict(best_numbers(session, study_id))
    if not results:
        return None
    rows = session.execute(
        select(TrialRow.trial_id, TrialRow.number, TrialRow.state)
        .join(AttemptRow, and_(AttemptRow.trial_id == TrialRow.trial_id, AttemptRow.number == TrialRow.token))
        .where(TrialRow.study_id == study_id, TrialRow.state.in_(_JUDGED), TrialRow.epochs > 0)
        # Not when they were given up, which may be long after they were judged.
        .order_by(AttemptRow.ended_at, TrialRow.number)
    ).all()
    complete = [trial_id for trial_id, _, state in rows if state == TrialState.COMPLETE]
    rising = spec.objective.direction == "maximize"
    worst = float("-inf") if rising else float("inf")
    # The others have no result that counts, but were judged and brought no gain.
    values = [results.get(number, worst) for _, number, _ in rows]
    gain = expected_gain(values, spec.budget.no_gain or 1, rising)
    if gain is None:
        return None
    curves: dict[int, list[float]] = defaultdict(list)
    points = session.execute(
        select(EpochRow.trial_id, EpochRow.value)
        .where(EpochRow.trial_id.in_(complete[-_CURVES:]))
        .order_by(EpochRow.trial_id, EpochRow.epoch)
    )
    for trial_id, value in points:
        if value is not None:
            curves[trial_id].append(value)
    return gain, epoch_noise(curves.values())


def _sum(session: Session, wanted: ColumnElement[bool], column: object) -> float:
    return float(session.scalar(select(func.sum(column)).where(wanted)) or 0)


def _gpu_seconds(session: Session, wanted: ColumnElement[bool]) -> float:
    """Seconds in which GPUs trained some trials; a GPU that several trials share counts once."""
    rows = session.execute(
        select(AttemptRow.host, AttemptRow.device, AttemptRow.started_at, AttemptRow.seconds)
        .join(TrialRow, TrialRow.trial_id == AttemptRow.trial_id)
        .where(wanted, AttemptRow.device != "cpu")
    )
    spans: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for host, device, start, seconds in rows:
        spans[host, device].append((start, start + seconds))
    return sum(covered(own) for own in spans.values())


def _begin_until(session: Session, counted: ColumnElement[bool], spec: StudySpec) -> float:
    """See `plan.begin_until`, by the epochs so far where they take longer than was planned."""
    assert spec.plan is not None
    epochs = _sum(session, counted, TrialRow.epochs)
    took = _sum(session, counted, TrialRow.seconds) / epochs if epochs else 0.0
    return begin_until(spec, spec.plan, max(took, spec.plan.epoch_seconds))


def _short(amount: float) -> str:
    return f"{amount:.0f}" if amount == int(amount) else f"{amount:.3g}"
