"""Who may run a trial, and who may ask for a new one.

A worker holds a trial by a lease that it renews, with a fencing token that grows with each attempt. All
of it are single updates that compare and set, by the clock of the database: of two workers that want the
same trial one gets it, and one that stalled and was given up finds its token outdated.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Double, Table, Update, and_, bindparam, exists, or_, select, update
from sqlalchemy.orm import Session

from tuner.config.errors import FailureKind, StudyError
from tuner.config.trial import TrialConfig
from tuner.storage.database import Database
from tuner.storage.tables import OPTUNA_TRIALS, AttemptRow, StudyRow, TrialRow, lapsed, now
from tuner.storage.texts import storable
from tuner.storage.updates import changed
from tuner.studies.state.provenance import WorkerInfo
from tuner.studies.state.records import RELEASED, Assignment, LeaseLost, TrialState

LEASE_SECONDS = 60.0
"""A worker that was not heard of for so long is taken for dead, and its trial is given to another."""
ASK_SECONDS = 60.0
"""How long the right to ask is held by one who dies with it."""
ASK_WAIT = 5.0
"""Seconds to wait for the right to ask; a worker has other trials to look after than the one that it asks for."""

_TRIALS: Table = TrialRow.__table__  # type: ignore[assignment]
RENEW = (
    update(_TRIALS)
    .where(
        _TRIALS.c.trial_id == bindparam("held_trial"),
        _TRIALS.c.token == bindparam("held_token"),
        _TRIALS.c.state == TrialState.RUNNING,
        _TRIALS.c.lease_until > RELEASED,
        or_(
            _TRIALS.c.trial_id < 0,
            and_(
                _TRIALS.c.created_at == bindparam("held_since", type_=Double),
                exists().where(OPTUNA_TRIALS.c.trial_id == bindparam("held_trial")),
            ),
        ),
    )
    .values(lease_until=now() + bindparam("lease_seconds", type_=Double))
)
"""Renews a lease, see `extend`; made once, because making a statement costs more than running it.

There is none to renew where Optuna's trial was deleted, by an Optuna client or its dashboard, even where another has
its id now; repeats have none there.
"""


@dataclass
class AskLock:
    """The right to ask for a new trial of a study, held by one worker at a time.

    Attributes:
        study_id: The study.
        token: Of its holder.
        used: Whether it was given back by a transaction that has ended well; then there is nothing left to give.
    """

    study_id: int
    token: str
    used: bool = False

    def give(self, session: Session) -> bool:
        """Give it back with the end of the transaction, until which no other worker has it; False where it was lost."""
        mine = (StudyRow.id == self.study_id, StudyRow.ask_token == self.token)
        return changed(session, update(StudyRow).where(*mine).values(ask_token=None)) == 1


class AskBusy(StudyError):
    """Others ask for a trial, or one of them died while it asked: ask again later."""


@contextmanager
def asking(database: Database, study_id: int, *, patience: float = ASK_WAIT) -> Iterator[AskLock]:
    """Wait for the right to ask for a new trial.

    One ask at a time: so the budget is never overrun, and samplers see the trials that others just began.

    Raises:
        AskBusy: It was not to be had within `patience` seconds.
        StudyError: The study was deleted.
    """
    lock = AskLock(study_id, uuid.uuid4().hex)

    def take(session: Session) -> bool:
        free = or_(StudyRow.ask_token.is_(None), lapsed(StudyRow.ask_until))
        taken = changed(
            session,
            update(StudyRow)
            .where(StudyRow.id == study_id, free)
            .values(ask_token=lock.token, ask_until=now() + ASK_SECONDS),
        )
        if not taken and session.get(StudyRow, study_id) is None:
            raise StudyError("the study was deleted while a worker ran it")
        return taken == 1

    longest, deadline = 0.05, time.monotonic() + patience
    while not database.run(take):
        if time.monotonic() > deadline:
            raise AskBusy("other workers ask for trials of the study", hint="Ask again.")
        time.sleep(random.uniform(0.01, longest))
        longest = min(1.0, 1.5 * longest)  # many that wait must not keep the database busy by asking
    try:
        yield lock
    finally:
        if not lock.used:
            database.run(lock.give)


def hold(session: Session, assignment: Assignment) -> TrialRow:
    """Renew a lease and lock the trial's row until the transaction ends.

    Raises:
        LeaseLost: The trial was given to another worker, has ended, or was deleted.
    """
    extend(session, assignment)
    return session.get_one(TrialRow, assignment.trial_id, populate_existing=True)


def extend(session: Session, assignment: Assignment, statement: Update = RENEW, **values: Any) -> None:
    """Renew a lease, with other changes of the trial's row, in one statement.

    Args:
        session: A transaction.
        assignment: The trial, and the attempt that holds it.
        statement: `RENEW`, with further values.
        values: Of its own parameters.

    Raises:
        LeaseLost: See `hold`.
    """
    trial_id, token, since = assignment.trial_id, assignment.attempt_id, assignment.created_at
    lease = {"held_trial": trial_id, "held_token": token, "held_since": since, "lease_seconds": LEASE_SECONDS}
    held = changed(session, statement, lease | values)
    if held:
        return
    row = session.get(TrialRow, trial_id, populate_existing=True)
    another = row is not None and trial_id > 0 and row.created_at != since
    if row is None or another or ((row.token, row.state) == (token, TrialState.RUNNING) and row.lease_until > RELEASED):
        raise LeaseLost("the study was deleted while a worker ran it")
    if row.token != token:
        raise LeaseLost(f"trial {row.number} was given to another worker, because this one was not heard of")
    how = "left to the next worker" if row.state == TrialState.RUNNING else row.state
    raise LeaseLost(f"trial {row.number} is not this worker's any more: it is {how}")


def claimable(session: Session, study_id: int) -> list[tuple[int, int]]:
    """Trials that nobody runs, though they should go on, as (trial id, token), oldest first."""
    rows = session.execute(
        select(TrialRow.trial_id, TrialRow.token)
        .where(TrialRow.study_id == study_id, TrialRow.state == TrialState.RUNNING, lapsed(TrialRow.lease_until))
        .order_by(TrialRow.number)
    )
    return [(trial_id, token) for trial_id, token in rows]


def claim(session: Session, trial_id: int, token: int, worker: WorkerInfo) -> TrialRow | None:
    """Begin the next attempt at a trial that nobody runs; None when another worker was faster."""
    claimed = changed(
        session,
        update(TrialRow)
        .where(
            TrialRow.trial_id == trial_id,
            TrialRow.token == token,
            TrialRow.state == TrialState.RUNNING,
            lapsed(TrialRow.lease_until),
        )
        .values(token=token + 1, lease_until=now() + LEASE_SECONDS),
    )
    if not claimed:
        return None
    end_attempt(session, trial_id, token, FailureKind.LOST, "the worker was not heard of any more")
    session.add(new_attempt(trial_id, token + 1, worker))
    return session.get(TrialRow, trial_id, populate_existing=True)


def assignment_of(row: TrialRow) -> Assignment:
    """The trial of a row, as its present attempt has it."""
    return Assignment(
        number=row.number,
        config=TrialConfig.model_validate(row.config),
        seed=row.seed,
        params=row.params,
        first_epoch=row.epochs + 1,
        attempt_id=row.token,
        trial_id=row.trial_id,
        is_default=row.is_default,
        resolved=row.resolved,
        created_at=row.created_at,
    )


def new_attempt(trial_id: int, number: int, worker: WorkerInfo) -> AttemptRow:
    """The row of an attempt that begins."""
    return AttemptRow(
        trial_id=trial_id,
        number=number,
        host=worker.host[:255],
        pid=worker.pid,
        device=worker.device[:255],
        versions=worker.versions,
        git_commit=worker.commit,
    )


def end_attempt(session: Session, trial_id: int, number: int, outcome: str, message: str | None) -> None:
    """Write how an attempt ended, unless that is known already."""
    message = message and storable(message)
    changed(
        session,
        update(AttemptRow)
        .where(AttemptRow.trial_id == trial_id, AttemptRow.number == number, AttemptRow.outcome.is_(None))
        .values(outcome=str(outcome), message=message, ended_at=now()),
    )
