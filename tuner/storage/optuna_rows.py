"""Optuna's trials as rows: read with few statements, and written within a transaction of ours.

Optuna's own storage makes an object of each row and commits each value by itself: seven seconds to read ten
thousand trials, fifteen commits to end one. Here a trial is changed in memory (see `tuner.studies.views`) and
what differs is written at once, together with our own rows, so that the two never disagree.

The tables are Optuna's, and so is the check that they have the version of the Optuna that is installed
(`Database.optuna`). No other module knows them.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial
from sqlalchemy import ColumnElement, Table, and_, delete, func, insert, or_, select, update
from sqlalchemy.orm import Session

_STUDIES: Table = models.StudyModel.__table__
_STUDY_USER_ATTRS: Table = models.StudyUserAttributeModel.__table__
_STUDY_SYSTEM_ATTRS: Table = models.StudySystemAttributeModel.__table__
_TRIALS: Table = models.TrialModel.__table__
_VALUES: Table = models.TrialValueModel.__table__
_PARAMS: Table = models.TrialParamModel.__table__
_USER_ATTRS: Table = models.TrialUserAttributeModel.__table__
_SYSTEM_ATTRS: Table = models.TrialSystemAttributeModel.__table__
_STEPS: Table = models.TrialIntermediateValueModel.__table__
_MANY = 500
"""Trials that one statement names."""


def read_heads(
    session: Session, study_id: int, *, after: int = -1, among: Collection[int] = ()
) -> Iterator[FrozenTrial]:
    """Number, state, values and times of the trials with an id after `after` and of those among some, by id."""
    wanted = _TRIALS.c.study_id == study_id
    if after >= 0:
        wanted = wanted & or_(_TRIALS.c.trial_id > after, _TRIALS.c.trial_id.in_(sorted(among)))
    yield from _heads(session, wanted)


def read_trial(session: Session, trial_id: int) -> FrozenTrial:
    """All of a trial.

    Raises:
        KeyError: There is none.
    """
    trial = next(_heads(session, _TRIALS.c.trial_id == trial_id), None)
    if trial is None:
        raise KeyError(f"Optuna has no trial {trial_id}")
    for fill in (fill_params, fill_user_attrs, fill_system_attrs, fill_intermediate_values):
        fill(session, [trial])
    return trial


def fill_params(session: Session, trials: Iterable[FrozenTrial]) -> None:
    """Read parameters and distributions into trials."""
    table = _PARAMS.c
    columns = (table.trial_id, table.param_name, table.param_value, table.distribution_json)
    for trial, (_, name, value, text) in _of_trials(session, trials, columns, table.param_id):
        distribution = _distribution(text)
        trial.params[name] = distribution.to_external_repr(value)
        trial.distributions[name] = distribution


def fill_user_attrs(session: Session, trials: Iterable[FrozenTrial]) -> None:
    """Read user attributes into trials."""
    _fill_attrs(session, trials, _USER_ATTRS, lambda trial: trial.user_attrs)


def fill_system_attrs(session: Session, trials: Iterable[FrozenTrial]) -> None:
    """Read system attributes into trials."""
    _fill_attrs(session, trials, _SYSTEM_ATTRS, lambda trial: trial.system_attrs)


def fill_intermediate_values(session: Session, trials: Iterable[FrozenTrial]) -> None:
    """Read intermediate values into trials."""
    table, stored = _STEPS.c, models.TrialIntermediateValueModel.stored_repr_to_intermediate_value
    columns = (table.trial_id, table.step, table.intermediate_value, table.intermediate_value_type)
    for trial, (_, step, value, kind) in _of_trials(session, trials, columns, table.step):
        trial.intermediate_values[step] = stored(value, kind)


def earlier_alike(session: Session, trial_id: int, *, but: str) -> list[int]:
    """Earlier trials of the same study that have a trial's parameters, whatever value one of them has."""
    mine, other, own, theirs = _PARAMS.alias(), _PARAMS.alias(), _TRIALS.alias(), _TRIALS.alias()
    wanted = (mine.c.trial_id == trial_id, mine.c.param_name != but)
    count = session.scalar(select(func.count()).select_from(mine).where(*wanted)) or 0
    earlier = (
        select(theirs.c.trial_id)
        .join(own, own.c.study_id == theirs.c.study_id)
        .where(own.c.trial_id == trial_id, theirs.c.trial_id < trial_id)
    )
    if count:
        same = (other.c.param_name == mine.c.param_name, other.c.param_value == mine.c.param_value)
        earlier = (
            earlier.join(other, other.c.trial_id == theirs.c.trial_id)
            .join(mine, and_(*same))
            .where(*wanted)
            .group_by(theirs.c.trial_id)
            .having(func.count() == count)
        )
    return list(session.scalars(earlier.order_by(theirs.c.trial_id)))


def add_trial(session: Session, study_id: int, trial: FrozenTrial) -> None:
    """Add a new trial, which is given its number and id.

    The study's row is locked, as Optuna does: numbers are counted, and must not be given twice.
    """
    session.execute(select(_STUDIES.c.study_id).where(_STUDIES.c.study_id == study_id).with_for_update())
    new = {"study_id": study_id, "state": trial.state, "datetime_start": _to_utc(trial.datetime_start)}
    made: Any = session.execute(insert(_TRIALS).values(new))
    trial._trial_id = made.inserted_primary_key[0]
    before = (_TRIALS.c.study_id == study_id, _TRIALS.c.trial_id < trial._trial_id)
    trial.number = session.scalar(select(func.count()).select_from(_TRIALS).where(*before)) or 0
    session.execute(update(_TRIALS).where(_TRIALS.c.trial_id == trial._trial_id).values(number=trial.number))
    _write_parts(session, None, trial)


def write_changes(session: Session, before: FrozenTrial, after: FrozenTrial) -> bool:
    """Write how a trial has changed; False, and nothing is written, where its state was changed meanwhile."""
    if (before.state, before.values) != (after.state, after.values):
        same = (_TRIALS.c.trial_id == before._trial_id, _TRIALS.c.state == before.state)
        times = {"datetime_start": _to_utc(after.datetime_start), "datetime_complete": _to_utc(after.datetime_complete)}
        changed: Any = session.execute(update(_TRIALS).where(*same).values(state=after.state, **times))
        if not changed.rowcount:
            return False
    _write_parts(session, before, after)
    return True


def delete_study(session: Session, study_id: int) -> None:
    """Delete a study with its trials, in a few statements; Optuna's own way takes a minute for ten thousand trials."""
    trials = select(_TRIALS.c.trial_id).where(_TRIALS.c.study_id == study_id)
    tables = list(reversed(models.BaseModel.metadata.sorted_tables))  # those that refer to others first
    for table in tables:
        if "trial_id" in table.c and table is not _TRIALS:
            session.execute(delete(table).where(table.c.trial_id.in_(trials)))
    for table in tables:
        if "study_id" in table.c:
            session.execute(delete(table).where(table.c.study_id == study_id))


def read_study_attr(session: Session, study_id: int, key: str) -> Any:
    """A user attribute of a study; None where it has none of that name."""
    mine = (_STUDY_USER_ATTRS.c.study_id == study_id, _STUDY_USER_ATTRS.c.key == key)
    text = session.scalar(select(_STUDY_USER_ATTRS.c.value_json).where(*mine))
    return None if text is None else json.loads(text)


def set_study_attr(session: Session, study_id: int, key: str, value: Any, *, system: bool = False) -> None:
    """Write a user attribute of a study, or a system attribute."""
    table = _STUDY_SYSTEM_ATTRS if system else _STUDY_USER_ATTRS
    session.execute(delete(table).where(table.c.study_id == study_id, table.c.key == key))
    session.execute(insert(table).values(study_id=study_id, key=key, value_json=json.dumps(value)))


def set_user_attrs(session: Session, trial_id: int, attrs: Mapping[str, Any]) -> None:
    """Write user attributes of a trial."""
    mine = (_USER_ATTRS.c.trial_id == trial_id, _USER_ATTRS.c.key.in_(sorted(attrs)))
    session.execute(delete(_USER_ATTRS).where(*mine))
    session.execute(
        insert(_USER_ATTRS), [{"trial_id": trial_id, "key": k} | row for k, row in _attr_rows(attrs).items()]
    )


def _write_parts(session: Session, before: FrozenTrial | None, after: FrozenTrial) -> None:
    parts: tuple[tuple[Table, str, Callable[[FrozenTrial], dict[Any, dict[str, Any]]]], ...] = (
        (_VALUES, "objective", _value_rows),
        (_PARAMS, "param_name", _param_rows),
        (_USER_ATTRS, "key", lambda trial: _attr_rows(trial.user_attrs)),
        (_SYSTEM_ATTRS, "key", lambda trial: _attr_rows(trial.system_attrs)),
        (_STEPS, "step", _step_rows),
    )
    for table, key, rows in parts:
        old, new = {} if before is None else rows(before), rows(after)
        changed = {name: row for name, row in new.items() if old.get(name) != row}
        mine = table.c.trial_id == after._trial_id
        if stale := sorted(changed.keys() & old.keys() | old.keys() - new.keys()):
            session.execute(delete(table).where(mine, table.c[key].in_(stale)))
        if changed:
            told = {"trial_id": after._trial_id}
            session.execute(insert(table), [told | {key: name} | row for name, row in changed.items()])


def _value_rows(trial: FrozenTrial) -> dict[Any, dict[str, Any]]:
    stored = map(models.TrialValueModel.value_to_stored_repr, trial.values or ())
    return {number: {"value": value, "value_type": kind} for number, (value, kind) in enumerate(stored)}


def _param_rows(trial: FrozenTrial) -> dict[Any, dict[str, Any]]:
    return {
        name: {
            "param_value": trial.distributions[name].to_internal_repr(value),
            "distribution_json": distribution_to_json(trial.distributions[name]),
        }
        for name, value in trial.params.items()
    }


def _attr_rows(attrs: Mapping[str, Any]) -> dict[Any, dict[str, Any]]:
    return {key: {"value_json": json.dumps(value)} for key, value in attrs.items()}


def _step_rows(trial: FrozenTrial) -> dict[Any, dict[str, Any]]:
    stored = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr
    return {
        step: dict(zip(("intermediate_value", "intermediate_value_type"), stored(value), strict=True))
        for step, value in trial.intermediate_values.items()
    }


def _heads(session: Session, wanted: ColumnElement[bool]) -> Iterator[FrozenTrial]:
    table = _VALUES.c
    values: dict[int, dict[int, float]] = defaultdict(dict)
    columns = (table.trial_id, table.objective, table.value, table.value_type)
    told = select(*columns).join(_TRIALS, _TRIALS.c.trial_id == table.trial_id).where(wanted)
    heads = session.execute(select(*_HEAD).where(wanted).order_by(_TRIALS.c.trial_id)).all()
    # Read after the states, so that none that has ended lacks its values.
    for trial_id, objective, value, kind in session.execute(told):
        values[trial_id][objective] = models.TrialValueModel.stored_repr_to_value(value, kind)
    for trial_id, number, state, start, end in heads:
        of_trial = values.get(trial_id)
        yield FrozenTrial(
            trial_id=trial_id,
            number=number,
            state=state,
            value=None,
            values=[of_trial[objective] for objective in sorted(of_trial)] if of_trial else None,
            datetime_start=_from_utc(start),
            datetime_complete=_from_utc(end),
            params={},
            distributions={},
            user_attrs={},
            system_attrs={},
            intermediate_values={},
        )


_HEAD = (
    _TRIALS.c.trial_id,
    _TRIALS.c.number,
    _TRIALS.c.state,
    _TRIALS.c.datetime_start,
    _TRIALS.c.datetime_complete,
)


def _fill_attrs(
    session: Session,
    trials: Iterable[FrozenTrial],
    table: Table,
    attrs: Callable[[FrozenTrial], dict[str, Any]],
) -> None:
    columns = (table.c.trial_id, table.c.key, table.c.value_json)
    for trial, (_, key, text) in _of_trials(session, trials, columns, table.c.key):
        attrs(trial)[key] = json.loads(text)


def _of_trials(
    session: Session, trials: Iterable[FrozenTrial], columns: tuple[Any, ...], order: Any
) -> Iterator[tuple[FrozenTrial, Any]]:
    """The rows of trials with the trial that each belongs to; the first column is the trial's id."""
    by_id = {trial._trial_id: trial for trial in trials}
    ids = sorted(by_id)
    for start in range(0, len(ids), _MANY):
        some = columns[0].in_(ids[start : start + _MANY])
        for row in session.execute(select(*columns).where(some).order_by(columns[0], order)):
            yield by_id[row[0]], row


@lru_cache(maxsize=4096)
def _distribution(text: str) -> BaseDistribution:
    return json_to_distribution(text)


def _from_utc(time: datetime | None) -> datetime | None:
    return None if time is None else time.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)


def _to_utc(time: datetime | None) -> datetime | None:
    return None if time is None else time.astimezone(UTC).replace(tzinfo=None)
