"""What trials of a study have brought: the best of them, the default config's, and their curves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import islice

from sqlalchemy import and_, func, select
from sqlalchemy.orm import Session

from tuner.config.study import StudySpec
from tuner.evaluation.metrics import Metrics
from tuner.storage.tables import AttemptRow, EpochRow, StudyRow, TrialRow
from tuner.storage.updates import in_parts
from tuner.studies.search.objective import broken_on_average, feasible
from tuner.studies.state.provenance import TRAINER
from tuner.studies.state.records import INFEASIBLE, QUEUED_OUTSIDE, TrialState


def best_number(session: Session, study_id: int) -> tuple[int, float] | None:
    """Number and value of the best complete trial that keeps the constraints; of equals the first.

    None before there is one.
    """
    return next(iter(best_numbers(session, study_id, 1)), None)


def best_numbers(session: Session, study_id: int, most: int | None = None) -> list[tuple[int, float]]:
    """Numbers and values of the complete trials that keep the constraints, best first; of equals the first.

    Args:
        session: A transaction.
        study_id: The study.
        most: How many at most; None: all.
    """
    spec = StudySpec.of_stored(session.get_one(StudyRow, study_id).spec)
    rising = TrialRow.value.desc() if spec.objective.direction == "maximize" else TrialRow.value
    found = session.execute(
        select(TrialRow.number, TrialRow.value, EpochRow.metrics if spec.constraints else TrialRow.epochs)
        .join(EpochRow, and_(EpochRow.trial_id == TrialRow.trial_id, EpochRow.epoch == TrialRow.epochs))
        .where(TrialRow.study_id == study_id, TrialRow.state == TrialState.COMPLETE, TrialRow.value.is_not(None))
        .order_by(rising, TrialRow.number)
        .limit(None if spec.constraints else most)
    )
    allowed = (
        (number, value)
        for number, value, metrics in found
        if value is not None and (not spec.constraints or feasible(spec, Metrics.model_validate(metrics)))
    )
    return list(islice(allowed, most))


def curves(session: Session, trial_ids: Sequence[int]) -> dict[int, dict[int, float]]:
    """Value after each epoch that has one, of some trials, by Optuna's id of the trial."""
    found: dict[int, dict[int, float]] = defaultdict(dict)
    for ids in in_parts(trial_ids):
        some = (EpochRow.trial_id.in_(ids), EpochRow.value.is_not(None))
        for trial_id, epoch, value in session.execute(
            select(EpochRow.trial_id, EpochRow.epoch, EpochRow.value).where(*some)
        ):
            assert value is not None
            found[trial_id][epoch] = value
    return found


def trained_by(session: Session, study_id: int) -> str | None:
    """What trained the first epoch of a study, or of the one that it repeats configs of: `BUILT_IN`, or an import path.

    None where nothing is trained yet, or was by a version that did not note it.
    """
    study = session.get_one(StudyRow, study_id)
    rows = select(StudyRow.id).where(func.abs(StudyRow.optuna_study_id) == abs(study.optuna_study_id))
    versions = session.scalar(
        select(AttemptRow.versions)
        .join(EpochRow, and_(EpochRow.trial_id == AttemptRow.trial_id, EpochRow.attempt == AttemptRow.number))
        .join(TrialRow, TrialRow.trial_id == AttemptRow.trial_id)
        .where(TrialRow.study_id.in_(rows), EpochRow.epoch == 1)
        .order_by(AttemptRow.id)
        .limit(1)
    )
    return None if versions is None else versions.get(TRAINER)


def default_values(session: Session, study_id: int) -> tuple[float, ...]:
    """Values of the complete runs of the default config, in order: many among repeats, at most one in a study."""
    own = (TrialRow.study_id == study_id, TrialRow.is_default, TrialRow.state == TrialState.COMPLETE)
    rows = session.scalars(select(TrialRow.value).where(*own).order_by(TrialRow.number))
    return tuple(value for value in rows if value is not None)


def default_breaks(session: Session, study_id: int, spec: StudySpec) -> str:
    """Which constraints the default config's complete trial does not keep; empty: none, or there is no such trial."""
    if not spec.constraints:
        return ""
    metrics = session.scalar(
        select(EpochRow.metrics)
        .join(TrialRow, and_(EpochRow.trial_id == TrialRow.trial_id, EpochRow.epoch == TrialRow.epochs))
        .where(TrialRow.study_id == study_id, TrialRow.is_default, TrialRow.state == TrialState.COMPLETE)
    )
    return "" if metrics is None else broken_on_average(spec, [Metrics.model_validate(metrics)])


def default_number(session: Session, study_id: int) -> int | None:
    """Number of the default config's trial; None before it was begun."""
    return session.scalar(select(TrialRow.number).where(TrialRow.study_id == study_id, TrialRow.is_default))


def refused_points(session: Session, study_id: int) -> tuple[int, ...]:
    """Numbers of the points that other Optuna clients queued and that are none of the study's space, in order."""
    points = (TrialRow.study_id == study_id, TrialRow.kind == INFEASIBLE, TrialRow.reason.startswith(QUEUED_OUTSIDE))
    return tuple(session.scalars(select(TrialRow.number).where(*points).order_by(TrialRow.number)))
