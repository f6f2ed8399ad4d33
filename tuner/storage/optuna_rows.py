"""Optuna's trials read from their rows, with few statements.

Optuna's own storage makes an object of each row: seven seconds to read ten thousand trials.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial
from sqlalchemy import ColumnElement, Table, and_, func, or_, select
from sqlalchemy.orm import Session

from tuner.storage.optuna_tables import PARAMS, STEPS, STUDY_USER_ATTRS, SYSTEM_ATTRS, TRIALS, USER_ATTRS, VALUES
from tuner.storage.updates import in_parts


def read_heads(
    session: Session, study_id: int, *, after: int = -1, among: Collection[int] = ()
) -> Iterator[FrozenTrial]:
    """Number, state, values and times of the trials with an id after `after` and of those among some, by id."""
    wanted = TRIALS.c.study_id == study_id
    if after >= 0:
        wanted = wanted & or_(TRIALS.c.trial_id > after, TRIALS.c.trial_id.in_(sorted(among)))
    yield from _heads(session, wanted)


def read_trial(session: Session, trial_id: int) -> FrozenTrial:
    """All of a trial.

    Raises:
        KeyError: There is none.
    """
    trial = next(_heads(session, TRIALS.c.trial_id == trial_id), None)
    if trial is None:
        raise KeyError(f"Optuna has no trial {trial_id}")
    for fill in (fill_params, fill_user_attrs, fill_system_attrs, fill_intermediate_values):
        fill(session, [trial])
    return trial


def fill_params(session: Session, trials: Iterable[FrozenTrial]) -> None:
    """Read parameters and distributions into trials."""
    table = PARAMS.c
    columns = (table.trial_id, table.param_name, table.param_value, table.distribution_json)
    for trial, (_, name, value, text) in _of_trials(session, trials, columns, table.param_id):
        distribution = _distribution(text)
        trial.params[name] = distribution.to_external_repr(value)
        trial.distributions[name] = distribution


def fill_user_attrs(session: Session, trials: Iterable[FrozenTrial]) -> None:
    """Read user attributes into trials."""
    _fill_attrs(session, trials, USER_ATTRS, lambda trial: trial.user_attrs)


def fill_system_attrs(session: Session, trials: Iterable[FrozenTrial]) -> None:
    """Read system attributes into trials."""
    _fill_attrs(session, trials, SYSTEM_ATTRS, lambda trial: trial.system_attrs)


def fill_intermediate_values(session: Session, trials: Iterable[FrozenTrial]) -> None:
    """Read intermediate values into trials."""
    table, stored = STEPS.c, models.TrialIntermediateValueModel.stored_repr_to_intermediate_value
    columns = (table.trial_id, table.step, table.intermediate_value, table.intermediate_value_type)
    for trial, (_, step, value, kind) in _of_trials(session, trials, columns, table.step):
        trial.intermediate_values[step] = stored(value, kind)


def earlier_alike(session: Session, trial_id: int, *, but: str) -> list[int]:
    """Earlier trials of the same study that have a trial's parameters, whatever value one of them has."""
    mine, other, own, theirs = PARAMS.alias(), PARAMS.alias(), TRIALS.alias(), TRIALS.alias()
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


def read_study_attr(session: Session, study_id: int, key: str) -> Any:
    """A user attribute of a study; None where it has none of that name."""
    mine = (STUDY_USER_ATTRS.c.study_id == study_id, STUDY_USER_ATTRS.c.key == key)
    text = session.scalar(select(STUDY_USER_ATTRS.c.value_json).where(*mine))
    return None if text is None else json.loads(text)


def _heads(session: Session, wanted: ColumnElement[bool]) -> Iterator[FrozenTrial]:
    table = VALUES.c
    values: dict[int, dict[int, float]] = defaultdict(dict)
    columns = (table.trial_id, table.objective, table.value, table.value_type)
    told = select(*columns).join(TRIALS, TRIALS.c.trial_id == table.trial_id).where(wanted)
    heads = session.execute(select(*_HEAD).where(wanted).order_by(TRIALS.c.trial_id)).all()
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
    TRIALS.c.trial_id,
    TRIALS.c.number,
    TRIALS.c.state,
    TRIALS.c.datetime_start,
    TRIALS.c.datetime_complete,
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
    for ids in in_parts(sorted(by_id)):
        for row in session.execute(select(*columns).where(columns[0].in_(ids)).order_by(columns[0], order)):
            yield by_id[row[0]], row


@lru_cache(maxsize=4096)
def _distribution(text: str) -> BaseDistribution:
    return json_to_distribution(text)


def _from_utc(time: datetime | None) -> datetime | None:
    return None if time is None else time.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)
