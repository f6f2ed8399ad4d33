"""Telling Optuna how trials ended, from our tables, which are the truth.

It happens in the transaction that ends the trial in our table. Trials that end by the dozen, when paused ones are
let go, are told one by one after; what a crash leaves untold, any worker tells later. Telling may be repeated, by
several workers at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import optuna
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from tuner.config.errors import FailureKind
from tuner.config.study import StudySpec
from tuner.evaluation.metrics import Metrics
from tuner.storage import optuna_rows, optuna_writing
from tuner.storage.tables import EpochRow, StudyRow, TrialRow
from tuner.storage.updates import changed
from tuner.studies.search.objective import objective_values, violations
from tuner.studies.state.records import INFEASIBLE, TrialState
from tuner.studies.trials.cached_storage import Drafting, changeable

VIOLATED: dict[str | None, str] = {FailureKind.OUT_OF_MEMORY: "memory", INFEASIBLE: "config"}
"""What is violated, by kind of failure: so the sampler learns the border (decision 8)."""


def untold(session: Session, study_id: int) -> list[int]:
    """Trials that have ended without Optuna knowing."""
    going = (TrialState.RUNNING, TrialState.PAUSED)
    ended = (TrialRow.study_id == study_id, TrialRow.state.not_in(going), TrialRow.told.is_(False))
    return list(session.scalars(select(TrialRow.trial_id).where(*ended)))


def tell(session: Session, study: optuna.Study, trial_id: int) -> None:
    """Tell Optuna how a trial ended, with its curve and what the dashboard shows of it."""
    session.flush()
    mine = (TrialRow.trial_id == trial_id, TrialRow.told.is_(False))
    if not changed(session, update(TrialRow).where(*mine).values(told=True)):
        return  # another worker told it meanwhile
    row = session.get_one(TrialRow, trial_id)
    spec = StudySpec.of_stored(session.get_one(StudyRow, row.study_id).spec)
    epochs = session.scalars(select(EpochRow).where(EpochRow.trial_id == trial_id).order_by(EpochRow.epoch)).all()
    before = optuna_rows.read_trial(session, trial_id)
    after = changeable(before)
    if before.state.is_finished():  # another Optuna client has told it, whatever it knew
        after.state, after.values = optuna.trial.TrialState.RUNNING, None
    told = optuna.Study(study.study_name, Drafting(study, draft=after), study.sampler, study.pruner)
    _tell(told, spec, row, epochs, set(before.intermediate_values))
    optuna_writing.write_changes(session, before, after)


def _tell(study: optuna.Study, spec: StudySpec, row: TrialRow, epochs: Sequence[EpochRow], known: set[int]) -> None:
    trial = optuna.trial.Trial(study, row.trial_id)
    for epoch in epochs:
        # With several objectives Optuna takes no intermediate values.
        if not spec.objectives and epoch.value is not None and epoch.epoch not in known:
            trial.report(epoch.value, epoch.epoch)
    for name, value in _attributes(row, epochs).items():
        trial.set_user_attr(name, value)
    violated = VIOLATED.get(row.kind)
    if violated is not None and violated not in trial.constraints:
        trial.set_constraint(violated, 1.0)
    metrics = Metrics.model_validate(epochs[-1].metrics) if epochs else None
    for name, amount in (violations(spec.constraints, metrics) if metrics else {}).items():
        if name not in trial.constraints:
            trial.set_constraint(name, amount)
    if row.state == TrialState.COMPLETE:
        values: list[Any] = objective_values(spec, metrics) if spec.objectives and metrics else [row.value]
        study.tell(trial, values, state=optuna.trial.TrialState.COMPLETE)
    elif row.state == TrialState.PRUNED and (row.params or row.kind != INFEASIBLE):
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    else:  # one that was queued with values outside the space has no parameters, so there is nothing to learn from it
        study.tell(trial, state=optuna.trial.TrialState.FAIL)


def _attributes(row: TrialRow, epochs: Sequence[EpochRow]) -> dict[str, Any]:
    """Columns of the dashboard's table of trials."""
    found: dict[str, Any] = {"epochs": row.epochs, "seconds": round(row.seconds, 1)}
    if row.peak_memory:
        found["peak_memory_mb"] = round(row.peak_memory / 2**20)
    if row.reason:
        found["reason"] = row.reason
    if epochs:
        metrics = Metrics.model_validate(epochs[-1].metrics)
        found |= {name: getattr(metrics, name) for name in ("map", "map50", "map75")}
        point = metrics.operating_point
        if point is not None:
            found |= {
                f"best_{name}" if name in row.params else name: getattr(point, name)
                for name in ("nms", "nms_iou", "confidence", "precision", "recall", "f1")
            }
            if point.tiles.size:
                found |= {"tiles": f"{point.tiles.size} px, overlap {point.tiles.overlap:g}"}
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in found.items()}
