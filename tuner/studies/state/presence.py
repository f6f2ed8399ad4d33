"""Which studies are at Optuna still, where its dashboard deletes and renames them; without Optuna itself."""

from __future__ import annotations

import json
from collections import defaultdict

from sqlalchemy import and_, exists, func, select
from sqlalchemy.orm import Session, load_only

from tuner.config.errors import NoStudies, StudyError
from tuner.config.study import is_study_name
from tuner.storage.database import Database, connect
from tuner.storage.folders import settle_study_folders
from tuner.storage.tables import BEGAN, OPTUNA_STUDIES, OPTUNA_STUDY_ATTRS, StudyRow, TrialRow
from tuner.storage.urls import storage_option

REPEATS = "@repeats"
"""What follows a study's name in that of its repeats (`tuner.studies.trust.repeats`); no study's own name has it."""
_SAME = (OPTUNA_STUDIES.c.study_id == StudyRow.optuna_study_id, OPTUNA_STUDIES.c.study_name == StudyRow.name)
ALIVE = exists().where(*_SAME).correlate(StudyRow)
"""Studies proper, that are at Optuna."""
GONE = and_(~ALIVE, StudyRow.name.not_like(f"%{REPEATS}%"))
"""Studies proper, that were deleted or renamed in Optuna's dashboard (`tuner.studies.state.renamed`)."""
UNKNOWN = and_(
    ~exists().where(*_SAME).correlate(OPTUNA_STUDIES),
    exists().where(OPTUNA_STUDY_ATTRS.c.study_id == OPTUNA_STUDIES.c.study_id, OPTUNA_STUDY_ATTRS.c.key == BEGAN),
)
"""Studies of Optuna's that are copies of ours."""


def moment(row: StudyRow) -> float:
    """When a study was begun, as it says at Optuna."""
    return round(row.created_at, 3)


def copies(session: Session) -> dict[float, list[tuple[int, str]]]:
    """Copies of our studies at Optuna, as (id, name), the latest first, by when the study was begun (see `moment`)."""
    attrs, found = OPTUNA_STUDY_ATTRS.alias(), defaultdict(list)
    said = select(OPTUNA_STUDIES.c.study_id, OPTUNA_STUDIES.c.study_name, attrs.c.value_json)
    said = said.join(attrs, and_(attrs.c.study_id == OPTUNA_STUDIES.c.study_id, attrs.c.key == BEGAN)).where(UNKNOWN)
    for optuna_id, name, began in session.execute(said.order_by(OPTUNA_STUDIES.c.study_id.desc())):
        found[json.loads(began)].append((optuna_id, name))
    return found


def misnamed(session: Session) -> dict[str, StudyError]:
    """Studies that were renamed in the dashboard to what no study is called, by the name that they have here.

    They are kept as they are until they are renamed once more, and those that were given the name of one until then.
    """
    found, theirs, renamed = {}, copies(session), {}
    for row in session.scalars(select(StudyRow).where(GONE)):
        if names := [name for _, name in theirs.get(moment(row), ())]:
            renamed[row.name] = next(filter(is_study_name, names), names[0])
    for old, new in renamed.items():
        if not is_study_name(new):
            found[old] = StudyError(
                f"study {old!r} was renamed {new!r} in Optuna's dashboard, which cannot be the name of a study",
                hint="Rename it there once more: to letters, digits, '.', '_' and '-', the first a letter or a digit, "
                "200 at most. Then it goes on.",
            )
    while waiting := {old: found[new] for old, new in renamed.items() if new in found and old not in found}:
        found |= waiting
    return found


def gone_studies(storage_url: str | None = None) -> dict[str, str]:
    """Studies that are not at Optuna any more by the name that they have here, and what became of each, for a reader.

    Raises:
        StorageError: The database cannot be used.
    """
    try:
        database = connect(storage_url, create=False)
    except NoStudies:
        return {}
    kept = select(StudyRow.name, func.count(TrialRow.trial_id)).outerjoin(TrialRow, TrialRow.study_id == StudyRow.id)
    kept = kept.where(GONE).group_by(StudyRow.name)
    try:
        there = storage_option(database.url)
        found = {name: _deleted(name, trials, there) for name, trials in database.run(lambda s: s.execute(kept).all())}
        return found | {name: str(error) for name, error in database.run(misnamed).items()}
    finally:
        database.close()


def _deleted(name: str, trials: int, there: str) -> str:
    kept = f"its {trials} trials are" if trials != 1 else "its trial is"
    return f"{name} was deleted in Optuna's dashboard; {kept} kept here until `tuner delete {name}{there}`"


def follow(database: Database) -> dict[str, str]:
    """Look for studies that were renamed in Optuna's dashboard; the new name of each that was found, by its old one."""
    some = select(exists(select(StudyRow.id).where(GONE)), exists(select(OPTUNA_STUDIES.c.study_id).where(UNKNOWN)))
    if not all(database.run(lambda session: session.execute(some).one())):
        return {}
    from tuner.studies.state.renamed import follow_renamed  # it needs Optuna

    return database.run(follow_renamed)


def settle_folders(database: Database) -> None:
    """Name the folders of renamed studies on this machine anew, so that no new study of the old name takes one over."""
    known = select(StudyRow).options(load_only(StudyRow.name, StudyRow.created_at))
    rows = database.run(lambda session: session.scalars(known).all())
    settle_study_folders(database.url, [(row.name, row.identity) for row in rows])


def refuse_deleted(session: Session, study_id: int, name: str, created_at: float) -> None:
    """Check that a study still is there, here and at Optuna, in whose dashboard it may have been deleted.

    It is known by when it was created, too, as SQLite gives the id of a deleted one again.

    Raises:
        StudyError: It was deleted, or renamed.
    """
    theirs = OPTUNA_STUDIES.c.study_id == func.abs(StudyRow.optuna_study_id)  # that of its study, for repeats
    names = select(StudyRow.name, OPTUNA_STUDIES.c.study_name).join(OPTUNA_STUDIES, theirs)
    found = session.execute(names.where(StudyRow.id == study_id, StudyRow.created_at == created_at)).one_or_none()
    mine = name.removesuffix(REPEATS)
    if found is None or found[0].removesuffix(REPEATS) != found[1]:
        raise StudyError(
            f"study {mine!r} was deleted",
            hint="Where it was renamed in Optuna's dashboard, "
            f"`tuner list{storage_option(session.get_bind().engine.url)}` finds it by its new name.",
        )
    if found[1] != mine:
        raise StudyError(
            f"study {mine!r} was renamed {found[1]!r} in Optuna's dashboard", hint="Go on with it by the new name."
        )
