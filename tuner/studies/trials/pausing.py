"""Trials that pause at rungs, in the database: who is paused, who goes on, who is done for.

A paused trial is one of its own state, held by nobody. Optuna has no such state: there it runs until it is told
for good, once, as complete or pruned; samplers are shown it as pruned (`tuner.studies.search.sampler_view`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial

from sqlalchemy import and_, case, or_, select, update
from sqlalchemy.orm import Session

from tuner.evaluation.metrics import Metrics
from tuner.storage.database import Database
from tuner.storage.tables import AttemptRow, EpochRow, TrialRow, lapsed, now
from tuner.storage.updates import changed
from tuner.studies.search.objective import violations
from tuner.studies.search.promotion import Entrant, beyond_hope, next_promotion
from tuner.studies.state.provenance import WorkerInfo
from tuner.studies.state.records import RELEASED, Assignment, TrialState
from tuner.studies.trials.leases import LEASE_SECONDS, end_attempt, hold, new_attempt
from tuner.studies.trials.rungs import Field, Rungs

NOT_PROMOTED = "stopped by the pruner: not among the best at its rung"


def pause(session: Session, assignment: Assignment) -> None:
    """Let go of a trial that waits for its promotion. May be repeated."""
    row = session.get(TrialRow, assignment.trial_id)
    if row is not None and (row.token, row.state) == (assignment.attempt_id, TrialState.PAUSED):
        return
    row = hold(session, assignment)
    row.state, row.lease_until = TrialState.PAUSED, RELEASED
    end_attempt(session, row.trial_id, row.token, TrialState.PAUSED, None)


def paused_trials(session: Session, study_id: int) -> set[int]:
    """Optuna's ids of the trials that are paused."""
    paused = (TrialRow.study_id == study_id, TrialRow.state == TrialState.PAUSED)
    return set(session.scalars(select(TrialRow.trial_id).where(*paused)))


def paused_violations(session: Session, study_id: int, constraints: Sequence[str]) -> dict[int, dict[str, float]]:
    """By how much the paused trials violate each constraint, as far as it is known, by Optuna's ids."""
    if not constraints:
        return {}
    last = (
        select(EpochRow.trial_id, EpochRow.metrics)
        .join(TrialRow, and_(TrialRow.trial_id == EpochRow.trial_id, TrialRow.epochs == EpochRow.epoch))
        .where(TrialRow.study_id == study_id, TrialRow.state == TrialState.PAUSED)
    )
    return {
        trial_id: violations(constraints, Metrics.model_validate(metrics))
        for trial_id, metrics in session.execute(last)
    }


def promote(database: Database, field: Field, rungs: Rungs, worker: WorkerInfo, to_come: int | None) -> TrialRow | None:
    """Begin the next attempt at the paused trial that should go on; None where none should.

    A trial is left to the host that paused it, where its checkpoint is, as long as that host works for the study and
    there are new trials to begin here meanwhile. Then it is rather trained once more up to its rung than waited for.
    """

    def look(session: Session) -> int | None:
        trials = field.read(session, rungs)
        number = _next(trials, rungs, to_come, but=_kept_elsewhere(session, field.study_id, worker.host))
        return _next(trials, rungs, to_come) if number is None and to_come == 0 else number

    while (number := database.run(look)) is not None:
        row = database.run(partial(_go_on, study_id=field.study_id, number=number, worker=worker))
        if row is not None:
            return row
    return None


def _go_on(session: Session, study_id: int, number: int, worker: WorkerInfo) -> TrialRow | None:
    """Begin the next attempt at a paused trial; None when another worker was faster."""
    paused = (TrialRow.study_id == study_id, TrialRow.number == number, TrialRow.state == TrialState.PAUSED)
    taken = changed(
        session,
        update(TrialRow)
        .where(*paused)
        .values(state=TrialState.RUNNING, token=TrialRow.token + 1, lease_until=now() + LEASE_SECONDS),
    )
    if not taken:
        return None
    row = session.scalars(select(TrialRow).where(TrialRow.study_id == study_id, TrialRow.number == number)).one()
    session.add(new_attempt(row.trial_id, row.token, worker))
    # The epoch may be reported again by the next attempt; it has passed now.
    changed(
        session, update(EpochRow).where(EpochRow.trial_id == row.trial_id, EpochRow.prune.is_(True)).values(prune=False)
    )
    return row


def retire(session: Session, field: Field, rungs: Rungs, to_come: int | None) -> int:
    """End the paused trials that can never go on, all of them once no other can run any more; never the default config.

    Args:
        session: A transaction.
        field: The study's trials.
        rungs: How it promotes; where it does not (any more), no paused trial but the default config's can go on.
        to_come: Trials that its budget still holds; None without a limit.

    Returns:
        How many were ended; Optuna is not told yet.
    """
    if rungs.epochs and to_come is None:
        return 0  # there is always hope
    trials = field.read(session, rungs)
    lost = beyond_hope(trials, rungs.epochs, rungs.reduction_factor, to_come)
    if not rungs.epochs or (to_come == 0 and not _active(trials) and _next(trials, rungs, to_come) is None):
        lost = {trial.number for trial in trials if trial.state == "paused" and not trial.is_default}
    if lost:
        gone = (TrialRow.study_id == field.study_id, TrialRow.number.in_(lost), TrialRow.state == TrialState.PAUSED)
        pruned = {"state": TrialState.PRUNED, "reason": NOT_PROMOTED, "finished_at": now()}
        changed(session, update(TrialRow).where(*gone).values(pruned))
    return len(lost)


def _active(trials: list[Entrant]) -> list[Entrant]:
    return [trial for trial in trials if trial.state == "active"]


def _kept_elsewhere(session: Session, study_id: int, host: str) -> set[int]:
    """Numbers of the paused trials that were paused on another host, which has worked for the study within a minute."""
    running = and_(TrialRow.state == TrialState.RUNNING, ~lapsed(TrialRow.lease_until))
    at_work = case((or_(running, AttemptRow.ended_at > now() - LEASE_SECONDS), 1), else_=0)
    unfinished = (TrialRow.study_id == study_id, TrialRow.state.in_((TrialState.RUNNING, TrialState.PAUSED)))
    rows = session.execute(
        select(TrialRow.number, TrialRow.state, AttemptRow.host, at_work)
        .join(AttemptRow, and_(AttemptRow.trial_id == TrialRow.trial_id, AttemptRow.number == TrialRow.token))
        .where(*unfinished)
    ).all()
    others = {theirs for _, _, theirs, works in rows if works} - {host[:255]}
    return {number for number, state, theirs, _ in rows if state == TrialState.PAUSED and theirs in others}


def _next(trials: list[Entrant], rungs: Rungs, to_come: int | None, but: Collection[int] = ()) -> int | None:
    if not rungs.epochs:
        default = (e.number for e in trials if e.is_default and e.state == "paused" and e.number not in but)
        return next(default, None)
    ranked = all(max(rungs.epochs) in trial.values for trial in _active(trials))
    closing = to_come == 0 and ranked
    return next_promotion(trials, rungs.epochs, rungs.reduction_factor, more=to_come != 0, closing=closing, but=but)
