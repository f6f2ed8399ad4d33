"""Trials that pause at rungs, in the database: who is paused, who goes on, who is done for.

A paused trial is one of its own state, held by nobody. Optuna has no such state: there it runs until it is told
for good, once, as complete or pruned; samplers are shown it as pruned (`tuner.studies.sight`).
"""

from __future__ import annotations

import sys
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from tuner.storage.tables import EpochRow, TrialRow, now
from tuner.studies.leases import LEASE_SECONDS, RELEASED, end_attempt, hold, new_attempt
from tuner.studies.promotion import Entrant, beyond_hope, goes_on, next_promotion
from tuner.studies.records import Assignment, TrialState, WorkerInfo
from tuner.trainers.contract import CHECKPOINT

_STATES: dict[str, Literal["active", "paused", "complete"]] = {
    TrialState.RUNNING: "active",
    TrialState.PAUSED: "paused",
    TrialState.COMPLETE: "complete",
}
NOT_PROMOTED = "stopped by the pruner: not among the best at its rung"


@dataclass(frozen=True)
class Rungs:
    """How a study promotes.

    Attributes:
        epochs: After which trials pause; empty where the study's pruner does not promote.
        reduction_factor: One of so many goes on.
        sign: 1 where larger values are better, -1 where smaller ones are.
        finalists: Trials that shall be complete when the study closes, the default config's aside.
    """

    epochs: tuple[int, ...]
    reduction_factor: int
    sign: int
    finalists: int = 1


def without_promotion(rungs: Rungs) -> Rungs:
    """When the budget allows no more: only what a study must have goes on, a complete trial and the default config."""
    return replace(rungs, reduction_factor=sys.maxsize, finalists=1)


def should_pause(session: Session, study_id: int, rungs: Rungs, number: int, epoch: int) -> bool:
    """Whether a trial that has reached a rung waits there, rather than being among the best."""
    if epoch not in rungs.epochs:
        return False
    return not goes_on(_entrants(session, study_id, rungs), number, epoch, rungs.reduction_factor)


def pause(session: Session, assignment: Assignment) -> None:
    """Let go of a trial that waits for its promotion. May be repeated."""
    row = session.get(TrialRow, assignment.trial_id)
    if row is not None and (row.token, row.state) == (assignment.attempt_id, TrialState.PAUSED):
        return
    row = hold(session, assignment.trial_id, assignment.attempt_id)
    row.state, row.lease_until = TrialState.PAUSED, RELEASED
    end_attempt(session, row.trial_id, row.token, TrialState.PAUSED, None)


def paused_trials(session: Session, study_id: int) -> set[int]:
    """Optuna's ids of the trials that are paused."""
    paused = (TrialRow.study_id == study_id, TrialRow.state == TrialState.PAUSED)
    return set(session.scalars(select(TrialRow.trial_id).where(*paused)))


def promote(session: Session, study_id: int, rungs: Rungs, worker: WorkerInfo, to_come: int | None) -> TrialRow | None:
    """Begin the next attempt at the paused trial that should go on; None where none should."""
    if not rungs.epochs:
        return None
    number = _next(_entrants(session, study_id, rungs), rungs, to_come)
    if number is None:
        return None
    # Locked, so that of two workers one gets it, and the other finds another.
    row = session.scalars(
        select(TrialRow)
        .where(TrialRow.study_id == study_id, TrialRow.number == number, TrialRow.state == TrialState.PAUSED)
        .with_for_update()
    ).one_or_none()
    if row is None:
        return promote(session, study_id, rungs, worker, to_come)
    row.state, row.token, row.lease_until = TrialState.RUNNING, row.token + 1, now() + LEASE_SECONDS
    session.add(new_attempt(row.trial_id, row.token, worker))
    # The epoch may be reported again by the next attempt; it has passed now.
    said = (EpochRow.trial_id == row.trial_id, EpochRow.prune.is_(True))
    session.execute(update(EpochRow).where(*said).values(prune=False), execution_options={"synchronize_session": False})
    session.flush()
    session.refresh(row)
    return row


def retire(session: Session, study_id: int, rungs: Rungs, to_come: int | None) -> int:
    """End the paused trials that can never go on; all of them once no other trial can run any more.

    Args:
        session: A transaction.
        study_id: The study.
        rungs: How it promotes; where it does not (any more), no paused trial can go on.
        to_come: Trials that its budget still holds; None without a limit.

    Returns:
        How many were ended; Optuna is not told yet.
    """
    trials = _entrants(session, study_id, rungs)
    paused = {trial.number for trial in trials if trial.state == "paused"}
    lost = beyond_hope(trials, rungs.epochs, rungs.reduction_factor, to_come, rungs.finalists)
    if not rungs.epochs or (_closing(trials, to_come) and _next(trials, rungs, to_come) is None):
        lost = paused
    if lost:
        gone = (TrialRow.study_id == study_id, TrialRow.number.in_(lost), TrialRow.state == TrialState.PAUSED)
        session.execute(
            update(TrialRow).where(*gone).values(state=TrialState.PRUNED, reason=NOT_PROMOTED, finished_at=now()),
            execution_options={"synchronize_session": False},
        )
    return len(lost)


def remove_checkpoints(session: Session, study_id: int, folder: Path) -> None:
    """Remove this machine's checkpoints of trials that were pruned, so can never go on."""
    kept = {path.parent.name: path for path in folder.glob(f"*/{CHECKPOINT}")}
    pruned = (TrialRow.study_id == study_id, TrialRow.state == TrialState.PRUNED)
    for number in session.scalars(select(TrialRow.number).where(*pruned)) if kept else ():
        if str(number) in kept:
            kept[str(number)].unlink(missing_ok=True)


def _closing(trials: list[Entrant], to_come: int | None) -> bool:
    return to_come == 0 and all(trial.state != "active" for trial in trials)


def _next(trials: list[Entrant], rungs: Rungs, to_come: int | None) -> int | None:
    closing = rungs.finalists if _closing(trials, to_come) else 0
    return next_promotion(trials, rungs.epochs, rungs.reduction_factor, closing=closing)


def _entrants(session: Session, study_id: int, rungs: Rungs) -> list[Entrant]:
    of_study = TrialRow.study_id == study_id
    values: dict[int, dict[int, float]] = defaultdict(dict)
    at_rungs = (
        select(TrialRow.number, EpochRow.epoch, EpochRow.value)
        .join(EpochRow, EpochRow.trial_id == TrialRow.trial_id)
        .where(of_study, EpochRow.epoch.in_(rungs.epochs), EpochRow.value.is_not(None))
    )
    for number, epoch, value in session.execute(at_rungs):
        assert value is not None
        values[number][epoch] = rungs.sign * value
    rows = session.execute(
        select(TrialRow.number, TrialRow.state, TrialRow.is_default).where(of_study).order_by(TrialRow.number)
    )
    return [Entrant(number, values[number], _STATES.get(state, "stopped"), default) for number, state, default in rows]
