"""What workers write about their trials: new trials, epochs, and how attempts end. Each function is one transaction."""

from __future__ import annotations

import math
import re

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tuner.config.errors import FailureKind
from tuner.config.trial import TrialConfig
from tuner.storage.tables import AttemptRow, EpochRow, StudyRow, TrialRow, now
from tuner.studies.leases import RELEASED, AskLock, end_attempt, hold, new_attempt
from tuner.studies.records import INFEASIBLE, Assignment, TrialState, WorkerInfo
from tuner.trainers.contract import EpochResult

MAX_RETRIES = 3
"""How often a trial is tried again whose worker, process, device or disk failed."""
RETRIED = (FailureKind.KILLED, FailureKind.LOST, FailureKind.DEVICE, FailureKind.DISK)
"""Failures that say nothing about the trial itself, so that another attempt may succeed."""

_PRUNED = (FailureKind.OUT_OF_MEMORY, FailureKind.DIVERGED, INFEASIBLE)
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


def counted_trials(session: Session, study_id: int) -> int:
    """Trials that count for the budget, running ones included."""
    counted = (TrialRow.study_id == study_id, func.coalesce(TrialRow.kind, "") != INFEASIBLE)
    return session.scalar(select(func.count()).select_from(TrialRow).where(*counted)) or 0


def add_trial(session: Session, lock: AskLock, trial: TrialRow, worker: WorkerInfo) -> bool:
    """Add a new trial, and its first attempt where it has one; False when the right to ask was lost meanwhile."""
    if not lock.confirm(session):
        return False
    session.add(trial)
    session.flush()
    if trial.token:
        session.add(new_attempt(trial.trial_id, trial.token, worker))
    return True


def store_config(session: Session, assignment: Assignment, config: TrialConfig) -> None:
    """Store the config with its anchors, from which every attempt starts."""
    row = hold(session, assignment.trial_id, assignment.attempt_id)
    row.config = config.model_dump(mode="json")
    row.resolved = True


def record_epoch(session: Session, assignment: Assignment, result: EpochResult, value: float | None) -> bool | None:
    """Store an epoch once, however often it is reported or trained.

    Returns:
        What the pruner said about it; None when it was not asked yet.
    """
    row = hold(session, assignment.trial_id, assignment.attempt_id)
    known = session.get(EpochRow, (assignment.trial_id, result.epoch))
    if known is None or known.attempt != assignment.attempt_id:
        seconds = result.train_seconds + result.eval_seconds
        attempt = session.scalars(
            select(AttemptRow).where(
                AttemptRow.trial_id == assignment.trial_id, AttemptRow.number == assignment.attempt_id
            )
        ).one()
        for spent in (row, attempt):
            spent.seconds += seconds
            spent.cpu_seconds += result.cpu_seconds
            spent.peak_memory = max(spent.peak_memory, result.peak_memory)
    if known is not None:
        return known.prune
    if result.epoch > row.epochs:
        row.epochs, row.value = result.epoch, value
    session.add(
        EpochRow(
            trial_id=assignment.trial_id,
            epoch=result.epoch,
            attempt=assignment.attempt_id,
            value=value,
            metrics=result.metrics.model_dump(mode="json"),
            # JSON knows no infinity and no NaN.
            losses={name: loss if math.isfinite(loss) else None for name, loss in result.losses.items()},
            executed=dict(result.executed),
            learning_rate=result.learning_rate,
            train_seconds=result.train_seconds,
            eval_seconds=result.eval_seconds,
            cpu_seconds=result.cpu_seconds,
            peak_memory=result.peak_memory,
        )
    )
    return None


def store_verdict(session: Session, trial_id: int, epoch: int, prune: bool) -> None:
    """Store what the pruner said about an epoch."""
    row = session.get(EpochRow, (trial_id, epoch))
    if row is not None:
        row.prune = prune


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
