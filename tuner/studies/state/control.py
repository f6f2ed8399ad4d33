"""Orders from outside, from any machine: pause, stop and resume a study, stop a trial.

They stand in the database; workers read them with their heartbeats and whenever they want a new trial. What is
ordered of a study is ordered of its repeats, too (`tuner.studies.trust.repeats`), which are run by workers of their
own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

from sqlalchemy import Update, func, select, update
from sqlalchemy.orm import Session

from tuner.config.errors import StudyError
from tuner.storage.tables import StudyRow, TrialRow
from tuner.storage.texts import storable
from tuner.storage.updates import changed, lock_studies
from tuner.studies.state.current import repeats_of
from tuner.studies.state.records import TrialState
from tuner.studies.state.results import default_number

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


def set_control(session: Session, study_id: int, control: Control, reason: str = "") -> bool:
    """Pause or stop a study; False where it is stopped, which a later pause does not change."""
    statement = _of_study(session, study_id)
    if control == "paused":
        statement = statement.where(StudyRow.control.is_distinct_from("stopped"))
    return changed(session, statement.values(control=control, control_reason=storable(reason) or None)) > 0


def clear_control(session: Session, study_id: int) -> None:
    """Let a study go on that was paused or stopped, or has ended by a config error."""
    changed(session, _of_study(session, study_id).values(control=None, control_reason=None, problem=None))


def order_stop(session: Session, study_id: int, number: int) -> list[tuple[int, int]]:
    """Order that a trial, and the repeats of its config, shall end with their last values.

    Returns:
        Those that had not ended, as (trial id, token).

    Raises:
        StudyError: There is no such trial, or all of it has ended.
    """
    going = TrialRow.state.in_((TrialState.RUNNING, TrialState.PAUSED))
    repeats = session.scalars(select(TrialRow).where(TrialRow.study_id == repeats_of(session, study_id), going))
    default = default_number(session, study_id) or 0
    rows = [row for row in repeats if number == (default if row.is_default else row.params["trial"])]
    trial = session.scalar(select(TrialRow).where(TrialRow.study_id == study_id, TrialRow.number == number))
    if trial is not None:
        rows.append(trial)
    elif not rows:
        raise no_trial(session.get_one(StudyRow, study_id).name, number, _count(session, study_id))
    ordered = changed(
        session,
        update(TrialRow)
        .where(TrialRow.trial_id.in_([row.trial_id for row in rows]), going)
        .values(state=TrialState.RUNNING, stop=True),  # a paused one is held by nobody, so it is claimed and ended
    )
    if not ordered and trial is not None:
        raise StudyError(f"trial {number} has ended already: it is {trial.state}")
    return [(row.trial_id, row.token) for row in rows if row.state in (TrialState.RUNNING, TrialState.PAUSED)]


def no_trial(study: str, number: int, count: int) -> StudyError:
    """What to say of a trial that a study with so many trials does not have."""
    has = f"it has 0 … {count - 1}" if count else "it has none yet"
    return StudyError(f"study {study!r} has no trial {number}; {has}")


def _count(session: Session, study_id: int) -> int:
    return session.scalar(select(func.count()).where(TrialRow.study_id == study_id)) or 0


def _of_study(session: Session, study_id: int) -> Update:
    """An update of a study's row, and of that of its repeats, of which none are made until the transaction ends."""
    lock_studies(session, StudyRow.id == study_id)
    repeats = repeats_of(session, study_id)
    return update(StudyRow).where(StudyRow.id.in_([study_id] if repeats is None else [study_id, repeats]))
