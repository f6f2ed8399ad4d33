"""Specs, metrics and workers that the tests of studies share."""

from __future__ import annotations

from typing import Any

from sqlalchemy import update

from tuner.config.objective import COCO_NAMES
from tuner.config.study import DataSpec, StudySpec
from tuner.evaluation.metrics import Metrics
from tuner.postprocess.operating_point import OperatingPoint
from tuner.storage.tables import TrialRow
from tuner.studies.state.provenance import WorkerInfo
from tuner.studies.state.records import Assignment
from tuner.studies.study import Study
from tuner.trainers.contract import EpochResult

EPOCHS = 9
SPACE = {
    "learning_rate": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True},
    "augment.mosaic": {"type": "float", "low": 0.0, "high": 1.0, "step": 0.1},
    "anchors": {"type": "categorical", "choices": ["default", "kmeans-iou"]},
}
WORKER = WorkerInfo(device="cpu", versions={"tuner": "test"}, commit=None)


def spec_for(data: DataSpec, url: str, name: str, **changes: Any) -> StudySpec:
    """A small study, by default with a pruner of Optuna's, so that no trial pauses."""
    defaults = {"epochs": EPOCHS, "image_size": 96}
    fields: dict[str, Any] = {"data": data, "storage": url, "name": name, "space": SPACE, "defaults": defaults}
    fields["pruner"] = {"name": "successive_halving", "first_rung": 1}
    return StudySpec.model_validate(fields | changes)


def metrics(value: float | None, **changes: Any) -> Metrics:
    return Metrics(**(dict.fromkeys(COCO_NAMES, value) | {"class_map": {"disc": value, "bar": None}} | changes))


def operating_point(**changes: Any) -> OperatingPoint:
    fields = {"nms_iou": 0.55, "confidence": 0.4, "precision": 0.8, "recall": 0.6, "f1": 0.7}
    return OperatingPoint(**(fields | changes))


def result(epoch: int, value: float | None, **changes: Any) -> EpochResult:
    return EpochResult(
        epoch=epoch,
        metrics=metrics(value, operating_point=operating_point() if epoch == EPOCHS else None, **changes),
        losses={"box": 1.0 / epoch, "class": float("inf") if epoch == 1 else 0.5},
        learning_rate=1e-3,
        train_seconds=1.5,
        eval_seconds=0.5,
        cpu_seconds=3.0,
        peak_memory=2**30 + epoch,
    )


def train(study: Study, assignment: Assignment, top: float, epochs: int = EPOCHS) -> bool:
    """Report a curve that rises to `top`, and end the trial unless it stops before; says whether it was pruned."""
    for epoch in range(assignment.first_epoch, epochs + 1):
        if study.report(assignment, result(epoch, top * epoch / EPOCHS)):
            study.prune(assignment, "stopped by the pruner")
            return True
    if epochs == EPOCHS:
        study.complete(assignment)
    return False


def forget_worker(study: Study, assignment: Assignment) -> None:
    """What the database looks like a minute after the worker of a trial was killed."""
    study.database.run(
        lambda session: session.execute(
            update(TrialRow).where(TrialRow.trial_id == assignment.trial_id).values(lease_until=1.0)
        )
    )
