"""Statements: updates that say how many rows they met, the lock on studies that is made of one, long lists in parts."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, CursorResult, Update, update
from sqlalchemy.orm import Session

from tuner.storage.tables import StudyRow

T = TypeVar("T")

_MANY = 500
"""Rows that one statement names."""


def in_parts(items: Collection[T]) -> Iterator[list[T]]:
    """Items, so many at a time as one statement may name."""
    left = list(items)
    for start in range(0, len(left), _MANY):
        yield left[start : start + _MANY]


def lock_studies(session: Session, *which: ColumnElement[bool]) -> None:
    """Lock the rows of studies until the transaction ends, which begins with this.

    It is an update without effect, as SQLite has no other lock: what is read there before the first write may be
    out of date by the time of that write.
    """
    changed(session, update(StudyRow).where(*which).values(name=StudyRow.name))


def changed(session: Session, statement: Update, values: dict[str, Any] | None = None) -> int:
    """Run an update, with values of its parameters; the number of rows that it met."""
    result: Any = session.execute(statement, values, execution_options={"synchronize_session": False})
    assert isinstance(result, CursorResult)
    return result.rowcount
