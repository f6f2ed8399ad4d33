"""How the trials of one study end, for us and for Optuna in one transaction; or are left to a later attempt."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import optuna
from sqlalchemy import select
from sqlalchemy.orm import Session

from tuner.config.errors import FailureKind
from tuner.config.study import StudySpec
from tuner.evaluation.metrics import Metrics
from tuner.storage.database import Database
from tuner.storage.tables import EpochRow, StudyRow, TrialRow
from tuner.studies.search.objective import undefined
from tuner.studies.state.records import Assignment, TrialState
from tuner.studies.trials import journal, pausing
from tuner.studies.trials.judging import Judge
from tuner.studies.trials.tell import tell
from tuner.trainers.contract import NO_EPOCH, TrialFailed


@dataclass(frozen=True)
class Ender:
    """Ends trials, or lets go of them.

    Attributes:
        database: Where the study is.
        study: Optuna's; None where Optuna does not know of the trials.
        judge: Remembers the trials that this process runs; None where nobody asks a pruner.
        promotes: Whether a trial that the pruner stops is paused, because it may go on later.
    """

    database: Database
    study: optuna.Study | None
    judge: Judge | None
    promotes: bool

    def complete(self, assignment: Assignment) -> None:
        """End a trial whose trainer has ended.

        Raises:
            TrialFailed: It has no value, without which no trial is complete.
        """
        self.end(assignment, TrialState.COMPLETE)

    def prune(self, assignment: Assignment, reason: str) -> None:
        """End a trial early."""
        self.end(assignment, TrialState.PRUNED, reason)

    def stop_early(self, assignment: Assignment) -> TrialState:
        """Do what the pruner said; the state of the trial now."""
        if not self.promotes:
            self.prune(assignment, "stopped by the pruner")
            return TrialState.PRUNED
        self.let_go(assignment)
        self.database.run(lambda session: pausing.pause(session, assignment))
        return TrialState.PAUSED

    def interrupt(self, assignment: Assignment) -> None:
        """Leave a trial to the next worker."""
        self.let_go(assignment)
        self.database.run(lambda session: journal.release(session, assignment, TrialState.INTERRUPTED))

    def fail(self, assignment: Assignment, kind: FailureKind, message: str) -> TrialState:
        """End an attempt that failed, and its trial where the kind says so; the state of the trial now."""
        self.let_go(assignment)

        def end(session: Session) -> TrialState:
            state = journal.fail_attempt(session, assignment, kind, message)
            if state is not TrialState.INTERRUPTED:
                self._tell(session, assignment.trial_id)
            return state

        return self.database.run(end)

    def end(
        self, assignment: Assignment, state: TrialState, reason: str | None = None, kind: str | None = None
    ) -> None:
        """End a trial in this state; its value is the last epoch's."""
        self.let_go(assignment)
        self.database.run(lambda session: self.end_in(session, assignment, state, reason, kind))

    def end_in(
        self,
        session: Session,
        assignment: Assignment,
        state: TrialState,
        reason: str | None = None,
        kind: str | None = None,
    ) -> None:
        """The same in a transaction of the caller's, who lets go of the trial."""
        session.flush()
        journal.end_trial(session, assignment, state, kind, reason)
        if state is TrialState.COMPLETE:
            _check_value(session, assignment)
        self._tell(session, assignment.trial_id)

    def let_go(self, assignment: Assignment) -> None:
        """Forget what is remembered of a trial: others may write to it now."""
        if self.judge is not None:
            self.judge.drop(assignment.trial_id)

    def tell(self, trial_ids: Iterable[int]) -> None:
        """Tell Optuna of trials that have ended without its knowing."""
        for trial_id in trial_ids:
            self.database.run(lambda session, i=trial_id: self._tell(session, i))  # type: ignore[misc]

    def _tell(self, session: Session, trial_id: int) -> None:
        if self.study is not None:
            tell(session, self.study, trial_id)


def _check_value(session: Session, assignment: Assignment) -> None:
    """Check that the last epoch of a trial has all that the study needs: its trainer may have ended early."""
    row = session.get_one(TrialRow, assignment.trial_id)
    if not row.epochs:
        raise TrialFailed(NO_EPOCH)
    spec = StudySpec.of_stored(session.get_one(StudyRow, row.study_id).spec)
    last = (EpochRow.trial_id == row.trial_id, EpochRow.epoch == row.epochs)
    metrics = Metrics.model_validate(session.scalars(select(EpochRow.metrics).where(*last)).one())
    missing = undefined(spec, metrics, last=True)
    if missing is not None:
        raise TrialFailed(
            f"the trainer ended with epoch {row.epochs} of {assignment.config.epochs} and without the metric {missing}",
            hint="A trainer that ends early measures in its last epoch all that the study needs.",
        )
