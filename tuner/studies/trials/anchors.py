"""A trial's anchors: made once for its training split, stored with it, and what they make of it.

Recipes that make equal anchors make equal trials, which the sampler cannot know: only the first of them is trained.
"""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import select
from sqlalchemy.orm import Session

from tuner.config.errors import ConfigError, FailureKind, TunerError
from tuner.config.trial import TrialConfig
from tuner.data.split import Split
from tuner.space.space import SearchSpace
from tuner.storage import optuna_rows, optuna_writing
from tuner.storage.database import Database
from tuner.storage.tables import TrialRow
from tuner.studies.state.records import DUPLICATE, Assignment, TrialState
from tuner.studies.trials import journal
from tuner.studies.trials.ending import Ender


def prepare(
    database: Database, study_id: int, space: SearchSpace, assignment: Assignment, train: Split, ender: Ender
) -> Assignment | None:
    """The assignment with its anchors, ready to train; None where its trial had to be ended instead.

    Args:
        database: Where the study is.
        study_id: Its id in our table.
        space: Its search space.
        assignment: A trial that this worker holds.
        train: The training split.
        ender: Ends the trial where its anchors cannot be made, or make it equal to an earlier one.

    Raises:
        TunerError: Something else than the config is wrong; the trial is left to the next worker.
    """
    try:
        if assignment.resolved:
            return assignment
        return _resolve(database, study_id, space, assignment, train, ender)
    except ConfigError as error:
        ender.fail(assignment, FailureKind.BAD_CONFIG, error.message)
    except TunerError:
        ender.interrupt(assignment)
        raise
    return None


def _resolve(
    database: Database, study_id: int, space: SearchSpace, assignment: Assignment, train: Split, ender: Ender
) -> Assignment | None:
    """Make the anchors of a trial from the training split, and store them with it.

    Where an earlier trial trains the same, this one ends in the same transaction: a worker that dies leaves it without
    anchors, so that the next worker looks, too.

    Returns:
        The assignment with them; None where its trial has ended.

    Raises:
        ConfigError: The anchors cannot be made.
        LeaseLost: The trial belongs to another worker now.
    """
    from tuner.models.anchors import resolve_anchors

    config = resolve_anchors(assignment.config, train)

    def store(session: Session) -> bool:
        journal.store_config(session, assignment, config)
        # Not the config, too: the dashboard shows an attribute in one line, and its page becomes as wide as that.
        optuna_writing.set_user_attrs(session, assignment.trial_id, {"seed": assignment.seed})
        searched = "anchors" in space.sampled and not assignment.is_default
        same = twin(session, study_id, assignment.trial_id, config) if searched else None
        if same is not None:
            reason = f"trains the same as trial {same}: equal anchors"
            ender.end_in(session, assignment, TrialState.PRUNED, reason, DUPLICATE)
        return same is None

    if not database.run(store):
        ender.let_go(assignment)
        return None
    return replace(assignment, config=config, resolved=True)


def twin(session: Session, study_id: int, trial_id: int, config: TrialConfig) -> int | None:
    """Number of an earlier trial that trains the same, though its anchors were made by another recipe."""
    alike = optuna_rows.earlier_alike(session, trial_id, but="anchors")
    others = (TrialRow.study_id == study_id, TrialRow.trial_id.in_(alike), TrialRow.resolved)
    known = session.execute(
        select(TrialRow.number, TrialRow.config).where(*others, TrialRow.state != TrialState.FAILED)
    )
    mine = config.model_dump(mode="json", exclude={"anchors"})
    return next((number for number, other in known if other | mine == other), None)
