"""What workers write about their trials: new trials, epochs, and how attempts end, each in a transaction of its
caller's."""

from __future__ import annotations

import math
import re
from functools import cache
from typing import Any

from sqlalchemy import BigInteger, Double, Insert, Table, bindparam, case, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from tuner.config.errors import FailureKind, StorageError
from tuner.config.trial import TrialConfig
from tuner.storage.tables import AttemptRow, EpochRow, StudyRow, TrialRow, now
from tuner.storage.texts import storable
from tuner.storage.trouble import refers_to_nothing
from tuner.storage.updates import changed
from tuner.studies.state.provenance import WorkerInfo
from tuner.studies.state.records import RELEASED, Assignment, LeaseLost, TrialState
from tuner.studies.trials.leases import RENEW, end_attempt, extend, hold, new_attempt
from tuner.trainers.contract import EpochResult

MAX_RETRIES = 3
"""How often a trial is tried again whose worker, process or device failed, for which it may be to blame itself."""
RETRIED = (FailureKind.KILLED, FailureKind.LOST, FailureKind.DEVICE, FailureKind.DISK, FailureKind.BAD_DATA)
"""Failures that say nothing about the trial itself, so that another attempt may succeed."""
_BLAMELESS = (FailureKind.DISK, FailureKind.BAD_DATA)
"""Those of them that end the whole run: somebody must begin the next, so that they need no limit."""

_PRUNED = (FailureKind.OUT_OF_MEMORY, FailureKind.DIVERGED)
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


def add_trial(session: Session, trial: TrialRow, worker: WorkerInfo) -> None:
    """Add a new trial, and its first attempt where it has one; to be called with the right to ask confirmed."""
    session.add(trial)
    session.flush()
    if trial.token:
        session.add(new_attempt(trial.trial_id, trial.token, worker))


def store_config(session: Session, assignment: Assignment, config: TrialConfig) -> None:
    """Store the config with its anchors, from which every attempt starts."""
    row = hold(session, assignment)
    row.config = config.model_dump(mode="json")
    row.resolved = True


def record_epoch(session: Session, assignment: Assignment, result: EpochResult, value: float | None) -> bool | None:
    """Store an epoch once, however often it is reported or trained.

    Returns:
        What the pruner said about it, where it was asked before; else None.

    Raises:
        LeaseLost: See `tuner.studies.trials.leases.hold`.
    """
    trial_id, attempt = assignment.trial_id, assignment.attempt_id
    row = {
        "trial_id": trial_id,
        "epoch": result.epoch,
        "attempt": attempt,
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
    cost = {
        "paid_seconds": result.train_seconds + result.eval_seconds,
        "paid_cpu_seconds": result.cpu_seconds,
        "paid_memory": result.peak_memory,
    }
    this_attempt = {"of_trial": trial_id, "of_attempt": attempt}
    count = {"preserve_rowcount": True}
    try:
        inserted: Any = session.execute(_insert_epoch(session.get_bind().dialect.name), row, execution_options=count)
    except IntegrityError as error:
        if not refers_to_nothing(error):
            raise
        raise LeaseLost("the study was deleted while a worker ran it") from None
    if inserted.rowcount:
        extend(session, assignment, _ADVANCE, new_epoch=result.epoch, new_value=value, **cost)
        session.execute(_CHARGE, this_attempt | cost)
        return None
    known = session.execute(
        select(EpochRow.attempt, EpochRow.prune).where(EpochRow.trial_id == trial_id, EpochRow.epoch == result.epoch)
    ).one_or_none()
    again = known is not None and known.attempt != attempt
    extend(session, assignment, _PAY if again else RENEW, **(cost if again else {}))
    if known is None:
        raise StorageError(f"the database took no row for epoch {result.epoch} of trial {assignment.number}")
    if again:  # paid for by this attempt, too, and only once
        this_epoch = (EpochRow.trial_id == trial_id, EpochRow.epoch == result.epoch)
        session.execute(_CHARGE, this_attempt | cost)
        changed(session, update(EpochRow).where(*this_epoch).values(attempt=attempt))
    verdict: bool | None = known.prune
    return verdict


@cache
def _insert_epoch(dialect: str) -> Insert:
    """Inserts a row, or nothing where the epoch has one."""
    if dialect == "mysql":
        return insert(_EPOCHS).prefix_with("ignore").inline()
    if dialect == "postgresql":
        return postgresql.insert(_EPOCHS).on_conflict_do_nothing().inline()
    return sqlite.insert(_EPOCHS).on_conflict_do_nothing().inline()


def _spent(table: Table) -> dict[str, Any]:
    """What an epoch adds to what a trial or an attempt has cost."""
    memory = bindparam("paid_memory", type_=BigInteger)
    return {
        "seconds": table.c.seconds + bindparam("paid_seconds", type_=Double),
        "cpu_seconds": table.c.cpu_seconds + bindparam("paid_cpu_seconds", type_=Double),
        "peak_memory": case((table.c.peak_memory < memory, memory), else_=table.c.peak_memory),
    }


_TRIALS: Table = TrialRow.__table__  # type: ignore[assignment]
_ATTEMPTS: Table = AttemptRow.__table__  # type: ignore[assignment]
_EPOCHS: Table = EpochRow.__table__  # type: ignore[assignment]
_FURTHER = _TRIALS.c.epochs < bindparam("new_epoch")
_PAY = RENEW.values(**_spent(_TRIALS))
# MySQL sets from left to right, and sees what it has set: the value stands before the epoch that decides about it.
_ADVANCE = _PAY.values(
    value=case((_FURTHER, bindparam("new_value", type_=Double)), else_=_TRIALS.c.value),
    epochs=case((_FURTHER, bindparam("new_epoch")), else_=_TRIALS.c.epochs),
)
_CHARGE = (
    update(_ATTEMPTS)
    .where(_ATTEMPTS.c.trial_id == bindparam("of_trial"), _ATTEMPTS.c.number == bindparam("of_attempt"))
    .values(**_spent(_ATTEMPTS))
)


def store_verdict(session: Session, trial_id: int, epoch: int) -> None:
    """Store that the pruner ends a trial after an epoch."""
    this = (EpochRow.trial_id == trial_id, EpochRow.epoch == epoch)
    changed(session, update(EpochRow).where(*this).values(prune=True))


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
    row = hold(session, assignment)
    reason = reason and storable(reason)
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
    row = hold(session, assignment)
    row.lease_until = RELEASED
    end_attempt(session, row.trial_id, row.token, outcome, message)


def fail_attempt(session: Session, assignment: Assignment, kind: FailureKind, message: str) -> TrialState:
    """End an attempt that failed; whether its trial ends with it is decided by the kind (decision 12).

    Returns:
        The state of the trial now.
    """
    blameless = kind in _BLAMELESS
    if blameless or (kind in RETRIED and failed_attempts(session, assignment.trial_id) < MAX_RETRIES):
        release(session, assignment, kind, message)
        return TrialState.INTERRUPTED
    state = TrialState.PRUNED if kind in _PRUNED else TrialState.FAILED
    end_trial(session, assignment, state, kind, message)
    return state


def failed_attempts(session: Session, trial_id: int) -> int:
    """Attempts at a trial that failed for a reason that is retried so many times only."""
    counted = [str(kind) for kind in RETRIED if kind not in _BLAMELESS]
    failed = (AttemptRow.trial_id == trial_id, AttemptRow.outcome.in_(counted))
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
