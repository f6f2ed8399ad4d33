"""Deleting studies, ours and what is left of those that Optuna's dashboard deleted."""

from __future__ import annotations

import shutil

from sqlalchemy import delete, exists, func, or_, select
from sqlalchemy.orm import Session

from tuner.config.errors import StorageError, StudyError
from tuner.storage import optuna_rows
from tuner.storage.database import Database
from tuner.storage.folders import study_folder
from tuner.storage.tables import OPTUNA_STUDIES, StudyRow, now
from tuner.studies.history import live_trials
from tuner.studies.reading import REPEATS, find_study, reach_study


def delete_study(name: str, storage_url: str | None = None) -> None:
    """Delete a study: its rows, Optuna's, its artifacts and its checkpoints.

    Raises:
        StudyError: There is no such study, or a worker runs it.
        StorageError: The database cannot be used, or a file cannot be deleted.
    """
    database, row = reach_study(name, storage_url)
    try:
        optuna_id = row.optuna_study_id
        rows = [row, find_study(database, name + REPEATS)]
        folders = [study_folder(database.url, one.name, one.identity) for one in rows if one is not None]

        def remove(session: Session) -> None:
            ours = StudyRow.optuna_study_id.in_([optuna_id, -optuna_id])
            # Locked, so that no worker begins a trial meanwhile.
            ids = session.scalars(select(StudyRow.id).where(ours).with_for_update()).all()
            running = [number for one in ids for number in live_trials(session, one)]
            asks = select(StudyRow.id).where(ours, StudyRow.ask_token.is_not(None), StudyRow.ask_until > now())
            if running or session.scalar(asks) is not None:
                does = f"holds trial {', '.join(map(str, running))}" if running else "asks for its next trial"
                raise StudyError(
                    f"study {name!r} is running: a worker {does}",
                    hint="Stop its workers first; one that was killed is taken for dead after a minute.",
                )
            session.execute(delete(StudyRow).where(ours))
            optuna_rows.delete_study(session, optuna_id)

        database.run(remove)
        for folder in folders:
            if not folder.is_dir():
                continue
            try:
                shutil.rmtree(folder)
            except OSError as error:
                raise StorageError(
                    f"study {name!r} is deleted, but not its folder {folder}: {error.strerror}",
                    hint="Delete the folder yourself.",
                ) from None
    finally:
        database.close()


def delete_orphans(database: Database) -> None:
    """Delete our rows of the studies that were deleted in Optuna's dashboard: their names and numbers are free again.

    One statement, which sees no half of a study that another process makes meanwhile: Optuna's part is there before
    ours. The repeats of a study live as long as it does, without a study of Optuna's (`tuner.studies.repeats`).
    """
    theirs = OPTUNA_STUDIES.c.study_name
    alive = exists().where(
        OPTUNA_STUDIES.c.study_id == func.abs(StudyRow.optuna_study_id),
        or_(StudyRow.name == theirs, StudyRow.name == theirs.concat(REPEATS)),
    )
    database.run(lambda session: session.execute(delete(StudyRow).where(~alive)) and None)
