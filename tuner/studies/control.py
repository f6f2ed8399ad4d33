"""Orders from outside, from any machine: pause, stop and resume a study, stop a trial.

They stand in the database; workers read them with their heartbeats and whenever they want a new trial.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from tuner.config.errors import StudyError
from tuner.storage.tables import StudyRow, TrialRow
from tuner.studies.leases import changed
from tuner.studies.records import TrialState

Control = Literal["paused", "stopped"]
"""A paused study's workers save their trials and wait; a stopped study's workers save and end."""
BY_HAND = "stopped by hand"
"""Reason of a trial that was stopped from outside."""


@dataclass(frozen=True)
class Orders:
    """What workers shall do.

    Attributes:
        control: Whether the study is paused or stopped.
        reason: Why, for a reader; empty where nothing was said.
        stop: Numbers of the unfinished trials that shall end with their last value.
    """

    control: Control | None
    reason: str
    stop: frozenset[int]


def read_orders(session: Session, study_id: int) -> Orders:
    """The orders that stand.

    Raises:
        StudyError: The study was deleted.
    """
    row = session.execute(
        select(StudyRow.control, StudyRow.control_reason).where(StudyRow.id == study_id)
    ).one_or_none()
    if row is None:
        raise StudyError("the study was deleted while a worker ran it")
    wanted = (TrialRow.study_id == study_id, TrialRow.state == TrialState.RUNNING, TrialRow.stop)
    numbers = session.scalars(select(TrialRow.number).where(*wanted))
    return Orders(cast("Control | None", row[0]), row[1] or "", frozenset(numbers))


def set_control(session: Session, study_id: int, control: Control | None, reason: str = "") -> bool:
    """Pause or stop a study, or let it go on; False where it is stopped, which a later pause does not change."""
    statement = update(StudyRow).where(StudyRow.id == study_id)
    if control == "paused":
        statement = statement.where(StudyRow.control.is_distinct_from("stopped"))
    return changed(session, statement.values(control=control, control_reason=reason or None)) == 1


def clear_control(session: Session, study_id: int) -> None:
    """Let a study go on that was paused or stopped, or has ended by a config error."""
    set_control(session, study_id, None)
    session.get_one(StudyRow, study_id).problem = None


def order_stop(session: Session, study_id: int, number: int) -> int:
    """Order that a trial shall end with its last value.

    Returns:
        Optuna's id of the trial.

    Raises:
        StudyError: There is no such trial, or it has ended.
    """
    of_trial = (TrialRow.study_id == study_id, TrialRow.number == number)
    ordered = changed(
        session,
        update(TrialRow)
        .where(*of_trial, TrialRow.state.in_((TrialState.RUNNING, TrialState.PAUSED)))
        .values(state=TrialState.RUNNING, stop=True),  # a paused one is held by nobody, so it is claimed and ended
    )
    row = session.scalars(select(TrialRow).where(*of_trial)).one_or_none()
    if row is None:
        raise StudyError(f"the study has no trial {number}", hint="List its trials with `tuner show STUDY`.")
    if not ordered:
        raise StudyError(f"trial {number} has ended already: it is {row.state}")
    return row.trial_id
