"""Other ids for the trials of a study.

A trial of ours has the id that Optuna gave it, by which attempts, epochs and exports refer to it, too. Copies of a
study at Optuna have other ids, and SQLite gives the ids of deleted trials once more.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, Table, delete, func, insert, literal, select, update
from sqlalchemy.orm import Session

from tuner.storage.tables import OPTUNA_TRIALS, AttemptRow, EpochRow, ExportRow, TrialRow

_TRIALS: Table = TrialRow.__table__  # type: ignore[assignment]
_PARTS: tuple[Table, ...] = tuple(row.__table__ for row in (AttemptRow, EpochRow, ExportRow))  # type: ignore[misc]


def put_aside(session: Session, study_id: int) -> None:
    """Give the trials of a study of ours negative ids, as Optuna gives none."""
    lowest = session.scalar(select(func.min(_TRIALS.c.trial_id))) or 0
    _move(session, study_id, literal(min(lowest, 0) - 1) - _number())


def follow(session: Session, study_id: int, optuna_study_id: int) -> None:
    """Give the trials of a study of ours the ids of those with the same numbers in one of Optuna's, which has them all.

    No trial may have one of these ids now.
    """
    theirs = select(OPTUNA_TRIALS.c.trial_id).where(
        OPTUNA_TRIALS.c.study_id == optuna_study_id, OPTUNA_TRIALS.c.number == _number()
    )
    _move(session, study_id, theirs.scalar_subquery())


def _number() -> ColumnElement[int]:
    """Of a trial that is moved, whose row has -1 minus its number meanwhile."""
    return literal(-1) - _TRIALS.c.number


def _move(session: Session, study_id: int, new: ColumnElement[int]) -> None:
    """Copy rows, let all that refer to them refer to the copies, and delete the rows: a key in use cannot change."""
    session.flush()
    mine = _TRIALS.c.study_id == study_id
    session.execute(update(_TRIALS).where(mine).values(number=_number()))  # numbers are unique
    columns = [column for column in _TRIALS.columns if column.name not in ("trial_id", "number")]
    old = select(new, _number(), *columns).where(mine)
    session.execute(insert(_TRIALS).from_select(["trial_id", "number", *(column.name for column in columns)], old))
    before, after = _TRIALS.alias(), _TRIALS.alias()
    left = (before.c.study_id == study_id, before.c.number < 0)
    for table in _PARTS:
        moved = (
            select(after.c.trial_id)
            .join(before, (after.c.study_id == before.c.study_id) & (after.c.number == literal(-1) - before.c.number))
            .where(*left, before.c.trial_id == table.c.trial_id)
        )
        session.execute(
            update(table)
            .where(table.c.trial_id.in_(select(before.c.trial_id).where(*left)))
            .values(trial_id=moved.scalar_subquery())
        )
    session.execute(delete(_TRIALS).where(mine, _TRIALS.c.number < 0))
    session.expire_all()
