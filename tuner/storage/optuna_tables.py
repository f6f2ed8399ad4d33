"""Optuna's tables; `optuna_rows` reads them and `optuna_writing` writes to them, and no other module knows them.

That they have the version of the Optuna that is installed is for it to check (`Database.optuna`).
"""

from __future__ import annotations

from optuna.storages._rdb import models
from sqlalchemy import Table

STUDIES: Table = models.StudyModel.__table__
STUDY_USER_ATTRS: Table = models.StudyUserAttributeModel.__table__
STUDY_SYSTEM_ATTRS: Table = models.StudySystemAttributeModel.__table__
TRIALS: Table = models.TrialModel.__table__
VALUES: Table = models.TrialValueModel.__table__
PARAMS: Table = models.TrialParamModel.__table__
USER_ATTRS: Table = models.TrialUserAttributeModel.__table__
SYSTEM_ATTRS: Table = models.TrialSystemAttributeModel.__table__
STEPS: Table = models.TrialIntermediateValueModel.__table__
