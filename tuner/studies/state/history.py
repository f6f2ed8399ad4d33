"""What the database knows about studies and trials, as records."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Integer, String, and_, case, cast, exists, func, select
from sqlalchemy.orm import Session

from tuner.config.study import StudySpec
from tuner.config.trial import TrialConfig
from tuner.evaluation.metrics import Metrics
from tuner.space.space import SearchSpace
from tuner.storage.tables import OPTUNA_TRIALS, AttemptRow, EpochRow, ExportRow, StudyRow, TrialRow, lapsed
from tuner.storage.updates import in_parts
from tuner.studies.state.budgets import spent, walked
from tuner.studies.state.current import repeats_of
from tuner.studies.state.records import (
    RELEASED,
    UNCOUNTED,
    AttemptRecord,
    Cost,
    EpochRecord,
    ExportRecord,
    StudySummary,
    TrialRecord,
    TrialState,
)
from tuner.studies.state.results import best_number, default_breaks, default_values, refused_points

_ORPHANED = and_(TrialRow.state == TrialState.RUNNING, lapsed(TrialRow.lease_until))
_STATE = case((_ORPHANED, TrialState.INTERRUPTED), else_=TrialRow.state)


def read_trials(
    session: Session,
    study_id: int,
    *,
    numbers: Collection[int] | None = None,
    states: Collection[TrialState] | None = None,
    epochs: bool = True,
) -> list[TrialRecord]:
    """Trials of a study in order, with their attempts and, unless `epochs` is False, their epochs."""
    wanted: list[ColumnElement[bool]] = [TrialRow.study_id == study_id]
    if numbers is not None:
        wanted.append(TrialRow.number.in_(numbers))
    if states is not None:
        wanted.append(_STATE.in_([str(state) for state in states]))
    rows = session.execute(select(TrialRow, _STATE).where(*wanted).order_by(TrialRow.number)).all()
    ids = [row.trial_id for row, _ in rows]
    attempts: dict[int, list[AttemptRecord]] = defaultdict(list)
    for attempt in _of_trials(session, AttemptRow, ids, AttemptRow.number):
        attempts[attempt.trial_id].append(_attempt(attempt))
    exports: dict[int, list[ExportRecord]] = defaultdict(list)
    of_study = select(ExportRow).join(TrialRow, TrialRow.trial_id == ExportRow.trial_id).where(*wanted)
    for row in session.scalars(of_study.order_by(ExportRow.id)):
        exports[row.trial_id].append(ExportRecord(row.exported_at, row.host, row.path, row.content))
    curves: dict[int, list[EpochRecord]] = defaultdict(list)
    if epochs:
        for epoch in _of_trials(session, EpochRow, ids, EpochRow.epoch):
            curves[epoch.trial_id].append(_epoch(epoch))
    return [
        _trial(row, TrialState(state), curves[row.trial_id], attempts[row.trial_id], exports[row.trial_id])
        for row, state in rows
    ]


def live_trials(session: Session, study_id: int) -> list[int]:
    """Numbers of the trials that a worker runs."""
    live = (TrialRow.study_id == study_id, TrialRow.state == TrialState.RUNNING, ~lapsed(TrialRow.lease_until))
    return list(session.scalars(select(TrialRow.number).where(*live).order_by(TrialRow.number)))


def unheard_trials(session: Session, study_id: int) -> list[tuple[int, str, int]]:
    """Trials whose worker was not heard of within its lease, though it did not end them: number, host and process."""
    unheard = (TrialRow.study_id == study_id, TrialRow.lease_until > RELEASED, _ORPHANED)
    attempt = and_(AttemptRow.trial_id == TrialRow.trial_id, AttemptRow.number == TrialRow.token)
    rows = session.execute(
        select(TrialRow.number, AttemptRow.host, AttemptRow.pid).join(AttemptRow, attempt).where(*unheard)
    )
    return [(number, host, pid) for number, host, pid in rows]


def verdicts(session: Session, trial_id: int) -> list[tuple[int, float | None, bool | None]]:
    """Epoch, value and what the pruner said, for epochs that it did not let pass."""
    rows = session.execute(
        select(EpochRow.epoch, EpochRow.value, EpochRow.prune)
        .where(EpochRow.trial_id == trial_id, EpochRow.prune.is_distinct_from(False))
        .order_by(EpochRow.epoch)
    )
    return [(epoch, value, verdict) for epoch, value, verdict in rows]


def read_summary(session: Session, study: StudyRow) -> StudySummary:
    """A study in one row, from aggregates alone: its cost does not grow with the number of trials."""
    spec = StudySpec.of_stored(study.spec)
    counted = session.execute(
        select(
            _STATE,
            func.count(),
            func.sum(TrialRow.epochs).cast(Integer),
            func.sum(case((func.coalesce(TrialRow.kind, "").in_(UNCOUNTED), 0), else_=1)).cast(Integer),
        )
        .where(TrialRow.study_id == study.id)
        .group_by(_STATE)
    ).all()
    repeats = repeats_of(session, study.id)
    repeat_epochs, repeat_cost = _cost(session, repeats)
    horizon = int(spec.defaults["epochs"])
    foreign_running, foreign_used, foreign_ignored = _foreign(session, study)
    judged = (TrialState.COMPLETE, TrialState.PRUNED)
    return StudySummary(
        name=study.name,
        metric=spec.objective.metric,
        created_at=study.created_at,
        budget=spec.budget.trials,
        counts={state: next((row[1] for row in counted if row[0] == state), 0) for state in TrialState},
        epochs=sum(row[2] for row in counted),
        full_epochs=sum(row[3] * horizon if row[0] in judged else row[2] for row in counted),
        cost=_cost(session, study.id)[1],
        repeat_epochs=repeat_epochs,
        repeat_cost=repeat_cost,
        best=best_number(session, study.id),
        default_value=next(iter(default_values(session, study.id)), None),
        problem=study.problem,
        spent=spent(session, study.id, spec) or walked(session, study.id, SearchSpace.of_stored(study.space)),
        queued=_queued(session, study),
        refused=refused_points(session, study.id),
        foreign_running=foreign_running,
        foreign_used=foreign_used,
        foreign_ignored=foreign_ignored,
        control=study.control,
        control_reason=study.control_reason,
        priority=spec.priority,
        default_repeats=() if repeats is None else default_values(session, repeats),
        default_breaks=default_breaks(session, study.id, spec),
    )


def _cost(session: Session, study_id: int | None) -> tuple[int, Cost]:
    """Epochs that trials of a study were trained for, and what they cost; nothing for none."""
    totals = (
        func.sum(TrialRow.epochs).cast(Integer),
        func.sum(TrialRow.seconds),
        func.sum(TrialRow.cpu_seconds),
        func.max(TrialRow.peak_memory),
    )
    totals_now = session.execute(select(*totals).where(TrialRow.study_id == study_id)).one()
    epochs, seconds, cpu_seconds, peak_memory = (amount or 0 for amount in totals_now)
    return epochs, Cost(seconds, cpu_seconds, peak_memory)


def _queued(session: Session, study: StudyRow) -> int:
    waiting = (OPTUNA_TRIALS.c.study_id == study.optuna_study_id, cast(OPTUNA_TRIALS.c.state, String) == "WAITING")
    return session.scalar(select(func.count()).select_from(OPTUNA_TRIALS).where(*waiting)) or 0


def _foreign(session: Session, study: StudyRow) -> tuple[int, int, int]:
    """How many trials of other Optuna clients run, and of those that have ended, how many samplers use and ignore."""
    state = cast(OPTUNA_TRIALS.c.state, String)
    ours = exists().where(TrialRow.trial_id == OPTUNA_TRIALS.c.trial_id, TrialRow.study_id == study.id)
    theirs = select(state).where(OPTUNA_TRIALS.c.study_id == study.optuna_study_id, ~ours)
    counts = Counter(session.scalars(theirs))
    ended = counts["COMPLETE"] + counts["PRUNED"]
    if not ended:
        return counts["RUNNING"], 0, 0
    from tuner.studies.state.foreign import count_usable  # it needs Optuna

    used = count_usable(session, study.optuna_study_id, study.id, SearchSpace.of_stored(study.space))
    return counts["RUNNING"], used, ended - used


def _of_trials(session: Session, table: Any, ids: Sequence[int], order: Any) -> list[Any]:
    rows: list[Any] = []
    for some in in_parts(ids):
        rows += session.scalars(select(table).where(table.trial_id.in_(some)).order_by(table.trial_id, order))
    return rows


def _trial(
    row: TrialRow,
    state: TrialState,
    epochs: list[EpochRecord],
    attempts: list[AttemptRecord],
    exports: list[ExportRecord],
) -> TrialRecord:
    return TrialRecord(
        number=row.number,
        state=state,
        value=row.value,
        config=TrialConfig.model_validate(row.config),
        params=row.params,
        seed=row.seed,
        is_default=row.is_default,
        last_epoch=row.epochs,
        kind=row.kind,
        reason=row.reason,
        cost=Cost(row.seconds, row.cpu_seconds, row.peak_memory),
        created_at=row.created_at,
        finished_at=row.finished_at,
        epochs=tuple(epochs),
        attempts=tuple(attempts),
        exports=tuple(exports),
    )


def _epoch(row: EpochRow) -> EpochRecord:
    return EpochRecord(
        epoch=row.epoch,
        attempt=row.attempt,
        value=row.value,
        metrics=Metrics.model_validate(row.metrics),
        losses=row.losses,
        executed=row.executed,
        learning_rate=row.learning_rate,
        train_seconds=row.train_seconds,
        eval_seconds=row.eval_seconds,
        cpu_seconds=row.cpu_seconds,
        peak_memory=row.peak_memory,
    )


def _attempt(row: AttemptRow) -> AttemptRecord:
    return AttemptRecord(
        number=row.number,
        host=row.host,
        pid=row.pid,
        device=row.device,
        versions=row.versions,
        commit=row.git_commit,
        started_at=row.started_at,
        ended_at=row.ended_at,
        outcome=row.outcome,
        message=row.message,
        seconds=row.seconds,
        cpu_seconds=row.cpu_seconds,
        peak_memory=row.peak_memory,
    )
