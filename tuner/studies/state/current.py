"""A study as it stands in the database now: whether trials may begin, by which spec, and on which data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import and_, select
from sqlalchemy.orm import Session, aliased

from tuner.config.errors import StudyError
from tuner.config.study import DataSpec, StudySpec
from tuner.storage.database import Database
from tuner.storage.tables import StudyRow

if TYPE_CHECKING:
    from tuner.data.coco import Dataset
    from tuner.data.fingerprint import Fingerprint


def read_current(session: Session, study_id: int, name: str) -> StudyRow:
    """The row of a study that may go on; its `control` says whether it should now.

    Raises:
        StudyError: The study was deleted, or has ended by an error.
    """
    row = session.get(StudyRow, study_id)
    if row is None:
        raise StudyError(f"study {name!r} was deleted")
    if row.problem is not None:
        raise StudyError(
            f"study {name!r} has ended: {row.problem}",
            hint="Correct the study file; where that makes another study of it, choose another name.",
        )
    return row


def repeats_of(session: Session, study_id: int) -> int | None:
    """Our id of a study's repeats (`tuner.studies.trust.repeats`); None where there are none."""
    study = aliased(StudyRow)
    theirs = (StudyRow.optuna_study_id == -study.optuna_study_id, study.optuna_study_id > 0)
    return session.scalar(select(StudyRow.id).join(study, and_(*theirs)).where(study.id == study_id))


def with_changes(spec: StudySpec, row: StudyRow) -> StudySpec:
    """The spec with what another command may have changed since it was read."""
    now = StudySpec.of_stored(row.spec)
    changes = {name: getattr(now, name) for name in ("budget", "plan", "priority", "keep", "pruner")}
    return spec.model_copy(update=changes)


def load_same_data(
    database: Database, study_id: int, spec: StudySpec, loaded: Dataset | None = None
) -> tuple[Dataset, Fingerprint]:
    """The data set on this machine, checked to be the one that the study was begun with, and its fingerprint.

    Args:
        database: Where the study is.
        study_id: Its id in our table.
        spec: Says where the data are.
        loaded: They, where they were read already.

    Raises:
        DataError: It is missing or broken, or differs; says in what.
    """
    from tuner.data.coco import load_dataset
    from tuner.data.fingerprint import Fingerprint, fingerprint

    dataset = loaded or load_dataset(spec.data)
    found = fingerprint(spec.data, dataset).model_dump(mode="json")

    def known(session: Session) -> StudyRow:
        row = session.get_one(StudyRow, study_id)
        if row.fingerprint is None:
            row.fingerprint = found
        return row

    row = database.run(known)
    refuse_data_of_another(row, spec.data, dataset)
    return dataset, Fingerprint.model_validate(row.fingerprint)


def refuse_data_of_another(row: StudyRow, spec: DataSpec, dataset: Dataset) -> None:
    """Check that a data set is the one that a study was begun with, where it was begun.

    Raises:
        DataError: It differs; says in what.
    """
    from tuner.data.fingerprint import Fingerprint, refuse_other_data

    if row.fingerprint is not None:
        refuse_other_data(Fingerprint.model_validate(row.fingerprint), spec, dataset, f"study {row.name!r}")
