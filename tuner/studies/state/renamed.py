"""Studies that were renamed in Optuna's dashboard, which copies a study under another name and id and deletes it.

Such a copy is known by an attribute of the study, and by its trials. Our rows follow it: names, and the ids of the
study and its trials. Rows whose study is gone without a copy are kept, too, until their name is needed again: what
trained for days is not thrown away because something else is begun.
"""

from __future__ import annotations

import logging

from optuna.trial import TrialState as OptunaState
from optuna.trial import create_trial
from sqlalchemy import String, cast, delete, exists, func, or_, select, update
from sqlalchemy.orm import Session

from tuner.config.errors import StudyError
from tuner.config.study import StudySpec, is_study_name
from tuner.space.space import SearchSpace, same_params
from tuner.storage import optuna_rows, optuna_writing, trial_ids
from tuner.storage.tables import BEGAN, OPTUNA_TRIALS, StudyRow, TrialRow
from tuner.storage.updates import changed, lock_studies
from tuner.studies.state.presence import ALIVE, GONE, REPEATS, copies, misnamed, moment
from tuner.studies.state.records import DEFAULT
from tuner.studies.state.specs import digest

_ASIDE = 2**30
"""Ids of Optuna's studies stay below; so our rows of a study that is gone are in nobody's way above."""


def mark(session: Session) -> None:
    """Let Optuna's studies say which of ours they are, as the dashboard copies what they say."""
    for row in session.scalars(select(StudyRow).where(ALIVE)):
        if optuna_rows.read_study_attr(session, row.optuna_study_id, BEGAN) != moment(row):
            optuna_writing.set_study_attr(session, row.optuna_study_id, BEGAN, moment(row))


def follow_renamed(session: Session) -> dict[str, str]:
    """Let our rows follow the studies that were renamed to what a study can be called.

    Returns:
        The new name of each by its old one.
    """
    lock_studies(session, GONE)  # another process may follow them, too
    gone = session.scalars(select(StudyRow).where(GONE).order_by(StudyRow.id)).all()
    theirs, waiting = copies(session), misnamed(session)
    found: dict[str, tuple[int, str]] = {}
    for row in gone:
        mine = ((i, name) for i, name in theirs.get(moment(row), ()) if is_study_name(name) and _holds(session, row, i))
        if row.name not in waiting and (copy := next(mine, None)) is not None:
            found[row.name] = copy
    if found:
        for row in gone:  # all, as names and ids may have gone from one to the other
            set_aside(session, row)
        session.flush()
        rows = {row.name: row for row in session.scalars(select(StudyRow).where(GONE))}
        for name, row in rows.items():
            if name in found:
                _rename(session, row, f"{REPEATS}{row.id}")  # no study's own name
        for old, (optuna_id, name) in found.items():
            drop(session, name)
            _bind(session, rows[old], optuna_id, name)
    return {old: name for old, (_, name) in found.items()}


def set_aside(session: Session, row: StudyRow) -> None:
    """Free the ids that the rows of a study have which is gone: SQLite gives them to the next."""
    if row.optuna_study_id > 0 and row.optuna_study_id < _ASIDE:
        repeats = _repeats(session, row)
        row.optuna_study_id = _ASIDE + row.id
        if repeats is not None:
            repeats.optuna_study_id = -row.optuna_study_id
        trial_ids.put_aside(session, row.id)


def make_room(session: Session, trial_id: int) -> None:
    """Set the study aside whose trial had the id that Optuna has just given to another."""
    held = session.get(TrialRow, trial_id)
    if held is not None:
        set_aside(session, session.get_one(StudyRow, held.study_id))


def drop(session: Session, name: str) -> None:
    """Delete what is kept of a study that is gone, as its name is needed again; says so.

    Raises:
        StudyError: A copy of the study is at Optuna, and our rows cannot follow, as it does not hold the same trials,
            or has a name that no study can have.
    """
    lock_studies(session, GONE, StudyRow.name == name)
    row = session.scalar(select(StudyRow).where(GONE, StudyRow.name == name))
    if row is None:
        return
    if (error := misnamed(session).get(name)) is not None:
        raise error
    for _, copy in copies(session).get(moment(row), ()):
        raise StudyError(
            f"study {name!r} was renamed {copy!r} in Optuna's dashboard, where trials have changed since",
            hint=f"`tuner delete {name}` deletes what is kept of it under the old name, which is free then.",
        )
    trials = session.scalar(select(func.count()).where(TrialRow.study_id == row.id)) or 0
    repeats = _repeats(session, row)
    session.execute(delete(StudyRow).where(StudyRow.id.in_([row.id] if repeats is None else [row.id, repeats.id])))
    if trials:
        logging.getLogger(__name__).warning(
            "study %r was deleted in Optuna's dashboard; now that its name is used again, %s goes, too",
            name,
            "its trial" if trials == 1 else f"what was kept of its {trials} trials",
        )


def _repeats(session: Session, row: StudyRow) -> StudyRow | None:
    return session.scalar(select(StudyRow).where(StudyRow.name == row.name + REPEATS))


def _rename(session: Session, row: StudyRow, name: str) -> None:
    repeats = _repeats(session, row)
    row.name = name
    if repeats is not None:
        repeats.name = name + REPEATS
    session.flush()


def _holds(session: Session, row: StudyRow, optuna_id: int) -> bool:
    """Whether a study of Optuna's has our trials, those aside that were begun while it was copied, or wait there."""
    copied = list(optuna_rows.read_heads(session, optuna_id))
    optuna_rows.fill_params(session, copied)
    ours = session.execute(select(TrialRow.number, TrialRow.params).where(TrialRow.study_id == row.id))
    return all(
        number >= len(copied)
        or copied[number].state == OptunaState.WAITING
        or same_params(copied[number].params, params)
        for number, params in ours
    )


def _bind(session: Session, row: StudyRow, optuna_id: int, name: str) -> None:
    spec = StudySpec.of_stored(row.spec | {"name": name})
    repeats = _repeats(session, row)
    _rename(session, row, name)
    _complete(session, row, optuna_id)
    trial_ids.follow(session, row.id, optuna_id)
    for one, its_id in ((row, optuna_id), (repeats, -optuna_id)):
        if one is not None:
            one.optuna_study_id = its_id
            one.spec = one.spec | {"name": name}
            one.digest = digest(spec, SearchSpace.of_stored(row.space))
    ended = exists().where(
        OPTUNA_TRIALS.c.trial_id == TrialRow.trial_id,
        cast(OPTUNA_TRIALS.c.state, String).in_(["COMPLETE", "PRUNED", "FAIL"]),
    )
    # What ended while the dashboard copied is told again.
    open_there = (TrialRow.study_id == row.id, ~ended)
    changed(session, update(TrialRow).where(*open_there).values(told=False))
    metrics = list(spec.objectives) or [spec.objective.metric]
    optuna_writing.set_study_attr(session, optuna_id, "study:metric_names", metrics, system=True)


def _complete(session: Session, row: StudyRow, optuna_id: int) -> None:
    """Add the trials that were begun while the dashboard copied, and failed ones for those of other clients.

    One that had been queued waits there still, and is begun.
    """
    distributions = SearchSpace.of_stored(row.space).distributions()
    copied = list(optuna_rows.read_heads(session, optuna_id))
    waiting = {trial.number: trial._trial_id for trial in copied if trial.state == OptunaState.WAITING}
    known = len(copied)
    late = select(TrialRow.number, TrialRow.params, TrialRow.is_default).where(
        TrialRow.study_id == row.id, or_(TrialRow.number >= known, TrialRow.number.in_(list(waiting)))
    )
    for number, params, is_default in session.execute(late.order_by(TrialRow.number)).all():
        while known < number:
            optuna_writing.add_trial(session, optuna_id, create_trial(state=OptunaState.FAIL))
            known += 1
        trial = create_trial(
            state=OptunaState.RUNNING,
            params=params,
            distributions={name: distributions[name] for name in params},
            user_attrs={DEFAULT: True} if is_default else {},
        )
        if number in waiting:
            before = optuna_rows.read_trial(session, waiting[number])
            trial._trial_id, trial.system_attrs = before._trial_id, before.system_attrs
            trial.user_attrs |= before.user_attrs
            optuna_writing.write_changes(session, before, trial)
        else:
            optuna_writing.add_trial(session, optuna_id, trial)
            known += 1
