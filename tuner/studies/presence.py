"""Which studies are at Optuna still, where its dashboard deletes and renames them; without Optuna itself."""

from __future__ import annotations

from contextlib import suppress

from sqlalchemy import and_, exists, func, select
from sqlalchemy.orm import Session

from tuner.config.errors import NoStudies, StudyError
from tuner.storage.database import Database, connect
from tuner.storage.folders import make_study_folder, study_folder
from tuner.storage.tables import BEGAN, OPTUNA_STUDIES, OPTUNA_STUDY_ATTRS, StudyRow, TrialRow
from tuner.storage.urls import storage_option

REPEATS = "@repeats"
"""What follows a study's name in that of its repeats (`tuner.studies.repeats`); no study's own name can hold it."""
_SAME = (OPTUNA_STUDIES.c.study_id == StudyRow.optuna_study_id, OPTUNA_STUDIES.c.study_name == StudyRow.name)
ALIVE = exists().where(*_SAME).correlate(StudyRow)
"""Studies proper, that are at Optuna."""
GONE = and_(~ALIVE, StudyRow.name.not_like(f"%{REPEATS}%"))
"""Studies proper, that were deleted or renamed in Optuna's dashboard (`tuner.studies.renamed`)."""
UNKNOWN = and_(
    ~exists().where(*_SAME).correlate(OPTUNA_STUDIES),
    exists().where(OPTUNA_STUDY_ATTRS.c.study_id == OPTUNA_STUDIES.c.study_id, OPTUNA_STUDY_ATTRS.c.key == BEGAN),
)
"""Studies of Optuna's that are copies of ours."""


def gone_studies(storage_url: str | None = None) -> dict[str, int]:
    """Studies that are not at Optuna any more, and how many trials are kept of each.

    Raises:
        StorageError: The database cannot be used.
    """
    try:
        database = connect(storage_url, create=False)
    except NoStudies:
        return {}
    kept = select(StudyRow.name, func.count(TrialRow.trial_id)).outerjoin(TrialRow, TrialRow.study_id == StudyRow.id)
    try:
        kept = kept.where(GONE).group_by(StudyRow.name)
        return database.run(lambda session: {name: trials for name, trials in session.execute(kept)})  # noqa: C416
    finally:
        database.close()


def follow(database: Database) -> dict[str, str]:
    """Look for studies that were renamed in Optuna's dashboard; the new name of each that was found, by its old one."""
    some = select(exists(select(StudyRow.id).where(GONE)), exists(select(OPTUNA_STUDIES.c.study_id).where(UNKNOWN)))
    if not all(database.run(lambda session: session.execute(some).one())):
        return {}
    from tuner.studies.renamed import follow_renamed  # it needs Optuna

    found = database.run(follow_renamed)
    names = [*found.values(), *(name + REPEATS for name in found.values())]
    rows = database.run(lambda session: session.scalars(select(StudyRow).where(StudyRow.name.in_(names))).all())
    for row in rows:
        if study_folder(database.url, row.name, row.identity).is_dir():
            with suppress(OSError):  # it may be another user's, who runs the study
                # Now, so that a new study of the old name does not take it over.
                make_study_folder(database.url, row.name, row.identity)
    return found


def refuse_deleted(session: Session, study_id: int, name: str) -> None:
    """Check that a study still is there, here and at Optuna, in whose dashboard it may have been deleted.

    Raises:
        StudyError: It was deleted, or renamed.
    """
    theirs = OPTUNA_STUDIES.c.study_id == func.abs(StudyRow.optuna_study_id)  # that of its study, for repeats
    names = select(StudyRow.name, OPTUNA_STUDIES.c.study_name).join(OPTUNA_STUDIES, theirs)
    found = session.execute(names.where(StudyRow.id == study_id)).one_or_none()
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
