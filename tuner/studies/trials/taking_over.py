"""Trials that were begun and that nobody runs: interrupted, left by a worker that died, or paused at a rung."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sqlalchemy.orm import Session

from tuner.config.errors import FailureKind
from tuner.storage.database import Database
from tuner.studies.state.control import BY_HAND
from tuner.studies.state.provenance import WorkerInfo
from tuner.studies.state.records import Assignment, TrialState
from tuner.studies.trials import journal, leases, pausing
from tuner.studies.trials.asking import Asker
from tuner.studies.trials.ending import Ender
from tuner.studies.trials.leases import assignment_of
from tuner.studies.trials.reporting import Reporter
from tuner.studies.trials.rungs import Field, Rungs, without_promotion
from tuner.studies.trials.tell import untold


def take_over(
    database: Database, left: Iterable[tuple[int, int]], worker: WorkerInfo, reporter: Reporter, ender: Ender
) -> Assignment | None:
    """Take over one of the trials that nobody runs, after ending those of which only that is left; None: no such one.

    Args:
        database: Where the study is.
        left: The trials (see `leases.claimable`).
        worker: Who takes them over.
        reporter: Knows what the pruner said.
        ender: Ends them.
    """
    for trial_id, token in left:
        row = database.run(lambda s, i=trial_id, t=token: leases.claim(s, i, t, worker))  # type: ignore[misc]
        if row is None:
            continue
        assignment = assignment_of(row)
        ender.let_go(assignment)
        failed = database.run(lambda s, i=trial_id: journal.failed_attempts(s, i))  # type: ignore[misc]
        if failed > journal.MAX_RETRIES:
            reason = f"{failed} attempts failed, the last because its worker was not heard of any more"
            ender.end(assignment, TrialState.FAILED, reason, FailureKind.LOST)
        elif row.stop:
            ender.prune(assignment, BY_HAND)
        elif reporter.said(assignment):
            ender.stop_early(assignment)
        elif row.epochs >= assignment.config.epochs:
            ender.complete(assignment)
        else:
            return assignment
    return None


def end_left(database: Database, stopped: Iterable[tuple[int, int]], ender: Ender) -> bool:
    """End trials that were stopped by hand, (trial id, token), as far as nobody runs them; whether all have ended."""
    held = 0
    for trial_id, token in stopped:
        row = database.run(lambda s, i=trial_id, t=token: leases.claim(s, i, t, WorkerInfo()))  # type: ignore[misc]
        if row is None:
            held += 1
        else:
            ender.prune(assignment_of(row), BY_HAND)
    return not held


def promote(
    database: Database,
    field: Field,
    rungs: Rungs,
    worker: WorkerInfo,
    asker: Asker,
    ender: Ender,
    tidy: Callable[[], None],
) -> Assignment | None:
    """Go on with the best paused trial that may, after ending those that never will; None where there is none.

    Args:
        database: Where the study is.
        field: Its trials.
        rungs: Where they pause.
        worker: Who goes on with it.
        asker: Knows what the budget still holds.
        ender: Tells Optuna of those that have ended.
        tidy: Removes what they leave behind.
    """

    def retire(session: Session) -> tuple[int | None, Rungs, list[int]] | None:
        if not rungs.epochs and not pausing.paused_trials(session, field.study_id):
            return None
        left = asker.left(session)
        closing = bool(rungs.epochs) and asker.exhausted(session)
        allowed = without_promotion(rungs) if closing else rungs
        retired = pausing.retire(session, field, allowed, left)
        return left, allowed, untold(session, field.study_id) if retired else []

    found = database.run(retire)
    if found is None:
        return None
    left, allowed, retired = found
    ender.tell(retired)
    tidy()
    row = pausing.promote(database, field, allowed, worker, left)
    return None if row is None else assignment_of(row)
