"""What workers write about their trials: new trials, epochs, and how attempts end. Each function is one transaction."""

from __future__ import annotations

import math
import re
from typing import Any

from sqlalchemy import case, func, insert, select, update
from sqlalchemy.orm import Session

from tuner.config.errors import FailureKind
from tuner.config.trial import TrialConfig
from tuner.storage.tables import AttemptRow, EpochRow, StudyRow, TrialRow, now
from tuner.studies.leases import RELEASED, end_attempt, extend, hold, new_attempt
from tuner.studies.records import INFEASIBLE, UNCOUNTED, Assignment, TrialState, WorkerInfo
from tuner.trainers.contract import EpochResult

MAX_RETRIES = 3
"""How often a trial is tried again whose worker, process, device or disk failed."""
RETRIED = (FailureKind.KILLED, FailureKind.LOST, FailureKind.DEVICE, FailureKind.DISK)
"""Failures that say nothing about the trial itself, so that another attempt may succeed."""

_PRUNED = (FailureKind.OUT_OF_MEMORY, FailureKind.DIVERGED, INFEASIBLE)
_UNSYNCHRONISED = {"synchronize_session": False}
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


def counted_trials(session: Session, study_id: int) -> int:
    """Trials that count for the budget, running ones included."""
    counted = (TrialRow.study_id == study_id, func.coalesce(TrialRow.kind, "").not_in(UNCOUNTED))
    return session.scalar(select(func.count()).select_from(TrialRow).where(*counted)) or 0


def add_trial(session: Session, trial: TrialRow, worker: WorkerInfo) -> None:
    """Add a new trial, and its first attempt where it has one; to be called with the right to ask confirmed."""
    session.add(trial)
    session.flush()
    if trial.token:
        session.add(new_attempt(trial.trial_id, trial.token, worker))


def store_config(session: Session, assignment: Assignment, config: TrialConfig) -> None:
    """Store the config with its anchors, from which every attempt starts."""
    row = hold(session, assignment.trial_id, assignment.attempt_id)
    row.config = config.model_dump(mode="json")
    row.resolved = True


def record_epoch(session: Session, assignment: Assignment, result: EpochResult, value: float | None) -> bool | None:
    """Store an epoch once, however often it is reported or trained.

    Returns:
        What the pruner said about it, where it was asked before; else None.
    """
    trial_id, attempt = assignment.trial_id, assignment.attempt_id
    known = session.execute(
        select(EpochRow.attempt, EpochRow.prune).where(EpochRow.trial_id == trial_id, EpochRow.epoch == result.epoch)
    ).first()
    changes: dict[str, Any] = {}
    if known is None or known.attempt != attempt:
        changes = _spent(TrialRow, result)
        this = (AttemptRow.trial_id == trial_id, AttemptRow.number == attempt)
        charge = update(AttemptRow).where(*this).values(**_spent(AttemptRow, result))
    if known is None:
        further = TrialRow.epochs < result.epoch
        changes["value"] = case((further, value), else_=TrialRow.value)
        changes["epochs"] = case((further, result.epoch), else_=TrialRow.epochs)
    extend(session, trial_id, attempt, **changes)
    if changes:
        session.execute(charge, execution_options=_UNSYNCHRONISED)
    if known is not None:
        if changes:  # paid for by this attempt, too, and only once
            this_epoch = (EpochRow.trial_id == trial_id, EpochRow.epoch == result.epoch)
            again = update(EpochRow).where(*this_epoch).values(attempt=attempt)
            session.execute(again, execution_options=_UNSYNCHRONISED)
        verdict: bool | None = known.prune
        return verdict
    row = {
        "trial_id": assignment.trial_id,
        "epoch": result.epoch,
        "attempt": assignment.attempt_id,
        "value": value,
        "metrics": result.metrics.model_dump(mode="json"),
        # JSON knows no infinity and no NaN.
        "losses": {name: loss if math.isfinite(loss) else None for name, loss in result.losses.items()},
        "executed": dict(result.executed),
        "learning_rate": result.learning_rate,
        "train_seconds": result.train_seconds,
        "eval_seconds": result.eval_seconds,
        "cpu_seconds": result.cpu_seconds,
        "peak_memory": result.peak_memory,
        "prune": False,  # until the pruner says something else, in the same transaction
    }
    session.execute(insert(EpochRow.__table__), row)  # type: ignore[arg-type]
    return None


def _spent(table: type[TrialRow] | type[AttemptRow], result: EpochResult) -> dict[str, Any]:
    larger = case((table.peak_memory < result.peak_memory, result.peak_memory), else_=table.peak_memory)
    return {
        "seconds": table.seconds + result.train_seconds + result.eval_seconds,
        "cpu_seconds": table.cpu_seconds + result.cpu_seconds,
        "peak_memory": larger,
    }


def store_verdict(session: Session, trial_id: int, epoch: int) -> None:
    """Store that the pruner ends a trial after an epoch."""
    this = (EpochRow.trial_id == trial_id, EpochRow.epoch == epoch)
    session.execute(update(EpochRow).where(*this).values(prune=True), execution_options=_UNSYNCHRONISED)


def end_trial(
    session: Session,
    assignment: Assignment,
    state: TrialState,
    kind: str | None = None,
    reason: str | None = None,
) -> None:
    """End a trial and its attempt; again with the same state changes nothing, so that a call may be repeated."""
    row = session.get(TrialRow, assignment.trial_id)
    if row is not None and row.token == assignment.attempt_id and row.state == state:
        return
    row = hold(session, assignment.trial_id, assignment.attempt_id)
    row.state, row.kind, row.reason = state, kind, reason
    row.finished_at, row.lease_until = now(), RELEASED
    end_attempt(session, row.trial_id, row.token, kind or state, reason)
    if kind == FailureKind.BAD_CONFIG and reason is not None:
        _end_study_on_repeat(session, row, reason)


def release(session: Session, assignment: Assignment, outcome: str, message: str | None = None) -> None:
    """End an attempt, but not its trial: the next worker may go on with it at once. May be repeated."""
    known = session.get(TrialRow, assignment.trial_id)
    if (
        known is not None
        and known.token == assignment.attempt_id
        and (known.state, known.lease_until) == (TrialState.RUNNING, RELEASED)
    ):
        return
    row = hold(session, assignment.trial_id, assignment.attempt_id)
    row.lease_until = RELEASED
    end_attempt(session, row.trial_id, row.token, outcome, message)


def fail_attempt(session: Session, assignment: Assignment, kind: FailureKind, message: str) -> TrialState:
    """End an attempt that failed; whether its trial ends with it is decided by the kind (decision 12).

    Returns:
        The state of the trial now.
    """
    if kind in RETRIED and failed_attempts(session, assignment.trial_id) < MAX_RETRIES:
        release(session, assignment, kind, message)
        return TrialState.INTERRUPTED
    state = TrialState.PRUNED if kind in _PRUNED else TrialState.FAILED
    end_trial(session, assignment, state, kind, message)
    return state


def failed_attempts(session: Session, trial_id: int) -> int:
    """Attempts at a trial whose worker, process, device or disk failed."""
    failed = (AttemptRow.trial_id == trial_id, AttemptRow.outcome.in_([str(kind) for kind in RETRIED]))
    return session.scalar(select(func.count()).select_from(AttemptRow).where(*failed)) or 0


def _end_study_on_repeat(session: Session, row: TrialRow, reason: str) -> None:
    """End the study when two trials failed with the same config error, whatever numbers stand in it."""
    others = session.scalars(
        select(TrialRow.reason).where(
            TrialRow.study_id == row.study_id,
            TrialRow.kind == FailureKind.BAD_CONFIG,
            TrialRow.trial_id != row.trial_id,
        )
    )
    if any(_NUMBER.sub("#", other or "") == _NUMBER.sub("#", reason) for other in others):
        study = session.get(StudyRow, row.study_id)
        if study is not None:
            study.problem = f"two trials failed with the same error: {reason}"
