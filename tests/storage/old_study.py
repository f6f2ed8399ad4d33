"""A row of a study, for tests of what becomes of it."""

from __future__ import annotations

from tuner.storage.database import Database
from tuner.storage.tables import StudyRow


def add_study(database: Database) -> None:
    database.run(
        lambda session: session.add(
            StudyRow(name="old", optuna_study_id=1, spec={}, space={}, digest="", versions={}, created_at=1.0)
        )
    )
