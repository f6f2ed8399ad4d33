"""Deleting studies, and what is left of those that were deleted in Optuna's dashboard."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from tuner.config.errors import StorageError, StudyError
from tuner.storage import optuna_writing
from tuner.storage.database import Database, connect
from tuner.storage.folders import known_study_folder, left_folders, remove_study_folder, study_folder
from tuner.storage.tables import StudyRow, TrialRow, lapsed
from tuner.storage.updates import lock_studies
from tuner.studies.reading import reach_study
from tuner.studies.state.history import live_trials
from tuner.studies.state.presence import ALIVE, GONE, REPEATS


def delete_study(name: str, storage_url: str | None = None) -> None:
    """Delete a study: its rows, Optuna's, its artifacts and its checkpoints; or what is kept of one that is gone there.

    Where the study is gone, its folder, which a deletion that was cut off has left on this machine, is deleted.

    Raises:
        StudyError: There is no such study, or a worker runs it.
        StorageError: The database cannot be used, or a file cannot be deleted.
    """
    if left := _left(name, storage_url):
        _remove(name, left)
        return
    database, row = _reach(name, storage_url)
    try:
        ours = StudyRow.name.in_([name, name + REPEATS])

        def remove(session: Session) -> list[Path | None]:
            lock_studies(session, ours)  # so that no worker begins a trial meanwhile
            rows = session.scalars(select(StudyRow).where(ours)).all()
            study = next((one for one in rows if one.identity == row.identity), None)
            if study is None:
                raise StudyError(
                    f"study {name!r} was deleted or renamed meanwhile", hint="`tuner list` shows what is left."
                )
            alive = session.scalar(select(StudyRow.id).where(StudyRow.id == study.id, ALIVE)) is not None
            folders = [known_study_folder(database.url, one.name, one.identity) for one in rows]
            running = [number for one in rows for number in live_trials(session, one.id)]
            asks = select(StudyRow.id).where(ours, StudyRow.ask_token.is_not(None), ~lapsed(StudyRow.ask_until))
            if running or session.scalar(asks) is not None:
                does = f"holds trial {', '.join(map(str, running))}" if running else "asks for its next trial"
                raise StudyError(
                    f"study {name!r} is running: a worker {does}",
                    hint="Stop its workers first; one that was killed is taken for dead after a minute.",
                )
            session.execute(delete(StudyRow).where(ours))
            if alive:
                optuna_writing.delete_study(session, study.optuna_study_id)
            return folders

        _remove(name, [folder for folder in database.run(remove) if folder is not None])
    finally:
        database.close()


def to_delete(name: str, storage_url: str | None = None) -> tuple[int, Path]:
    """How many trials `delete_study` would delete, and which folder.

    Raises:
        StudyError: There is no such study.
        StorageError: The database cannot be used.
    """
    if left := _left(name, storage_url):
        return 0, left[0]
    database, row = _reach(name, storage_url)
    trials = select(func.count()).where(TrialRow.study_id == row.id)
    try:
        return database.run(lambda session: session.scalar(trials) or 0), study_folder(
            database.url, row.name, row.identity
        )
    finally:
        database.close()


def _remove(name: str, folders: Iterable[Path]) -> None:
    for folder in folders:
        try:
            remove_study_folder(folder)
        except OSError as error:
            raise StorageError(
                f"study {name!r} is deleted, but not its folder {folder}: {error.strerror}",
                hint="Delete the folder yourself.",
            ) from None


def _left(name: str, storage_url: str | None) -> list[Path]:
    """Folders of a study that the database does not hold any more; none where it holds one of that name."""
    database = connect(storage_url, create=False)
    try:
        rows = database.run(lambda session: [(row.name, row.identity) for row in session.scalars(select(StudyRow))])
    finally:
        database.close()
    if name in (held for held, _ in rows):
        return []
    return left_folders(database.url, (name, name + REPEATS), (identity for _, identity in rows))


def _reach(name: str, storage_url: str | None) -> tuple[Database, StudyRow]:
    """See `reach_study`; also finds what is kept of a study that was deleted in Optuna's dashboard."""
    try:
        return reach_study(name, storage_url)
    except StudyError:
        database = connect(storage_url, create=False)
        row = database.run(lambda session: session.scalar(select(StudyRow).where(StudyRow.name == name, GONE)))
        if row is None or row.name != name:  # MySQL tells no capital letters apart
            database.close()
            raise
        return database, row
