"""Asking for a new trial, so that no crash and no second worker loses one, and no budget is overrun."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from optuna.trial import FrozenTrial
from sqlalchemy.orm import Session

from tuner.config.errors import StudyError
from tuner.storage import optuna_writing
from tuner.storage.tables import TrialRow, now
from tuner.studies.search.samplers import grid_size
from tuner.studies.state.budgets import counted_trials, spent
from tuner.studies.state.provenance import WorkerInfo
from tuner.studies.state.records import DEFAULT, INFEASIBLE, Assignment, TrialState
from tuner.studies.state.renamed import make_room
from tuner.studies.trials import journal
from tuner.studies.trials.cached_storage import changeable
from tuner.studies.trials.judging import Judge
from tuner.studies.trials.leases import LEASE_SECONDS, AskBusy, AskLock, asking, assignment_of
from tuner.studies.trials.sampling import Sample, TrialSampler, View
from tuner.studies.trials.tell import tell

_MAX_INFEASIBLE = 50


class Asker:
    """Asks for new trials of one study, as far as its budget goes.

    Args:
        sampler: Proposes them.
        judge: Will be asked about them, and need not read them again.
        refuse_deleted: Raises where the study was deleted while a trial was sampled.
    """

    def __init__(self, sampler: TrialSampler, judge: Judge, refuse_deleted: Callable[[Session], None]) -> None:
        self._sampler = sampler
        self._judge = judge
        self._refuse_deleted = refuse_deleted
        self._database = sampler.database
        self._id = sampler.study_id
        self._spec = sampler.spec

    def ask(self, worker: WorkerInfo) -> Assignment | None:
        """A new trial, its anchors not resolved yet; None when the budget is spent or the grid is walked.

        Points whose values do not fit together are told to the sampler and asked for anew.

        Raises:
            AskBusy: Others ask, or took over while this one asked for long.
            StudyError: Hardly any point of the space fits together, or the study was deleted.
        """
        message = ""
        for _ in range(_MAX_INFEASIBLE):
            with asking(self._database, self._id) as lock:
                view = self._database.run(self._look)
                if view is None:
                    return None
                sample = self._sampler.sample(view)
                added = self._database.run(partial(self._add, lock=lock, sample=sample, worker=worker))
                lock.used = added is not None
            if added is None:
                raise AskBusy("the right to ask, or the trial that waited, went to another worker", hint="Ask again.")
            assignment, trial = added
            if not sample.message:
                self._judge.keep(trial)
                return assignment
            message = sample.message
        raise StudyError(
            f"{_MAX_INFEASIBLE} points of the search space in a row did not fit together: {message}",
            hint="Narrow the ranges of the dimensions that the message names.",
        )

    def left(self, session: Session) -> int | None:
        """Trials that may still be asked for: none where a budget is spent; None without a limit of trials."""
        if self._over(session):
            return 0
        trials = self._spec.budget.trials
        limits = [] if trials is None else [trials - counted_trials(session, self._id)]
        left = self._sampler.untried(session)
        if left is not None:
            limits.append(len(left))
        return max(0, min(limits)) if limits else None

    def exhausted(self, session: Session) -> bool:
        """Whether a budget other than that of trials is spent, so that paused trials should cost nothing more."""
        budget = self._spec.budget.model_copy(update={"trials": None})
        spec = self._spec.model_copy(update={"budget": budget})
        return spent(session, self._id, spec) is not None

    def _look(self, session: Session) -> View | None:
        """What the next trial is sampled from; None when there shall be none."""
        return None if self._over(session) else self._sampler.look(session)

    def _add(
        self, session: Session, lock: AskLock, sample: Sample, worker: WorkerInfo
    ) -> tuple[Assignment, FrozenTrial] | None:
        """Write a sampled trial, and give the right to ask back.

        Returns:
            The trial, for a worker and at Optuna; None when that right, or the waiting trial, was lost meanwhile.
        """
        if not lock.give(session):
            return None
        self._refuse_deleted(session)
        trial = changeable(sample.trial)  # so that this may be done again
        if sample.waiting is None:
            optuna_writing.add_trial(session, self._sampler.study._study_id, trial)
        elif not optuna_writing.write_changes(session, sample.waiting, trial):
            return None
        make_room(session, trial._trial_id)
        row = TrialRow(
            trial_id=trial._trial_id,
            study_id=self._id,
            number=trial.number,
            is_default=bool(trial.user_attrs.get(DEFAULT)),
            seed=self._spec.sampler.seed,
            params=trial.params,
            config=sample.config.model_dump(mode="json"),
            state=TrialState.RUNNING,
            token=1,
            epochs=0,
            lease_until=now() + LEASE_SECONDS,
        )
        if sample.message:
            row.state, row.kind, row.reason, row.token = TrialState.PRUNED, INFEASIBLE, sample.message, 0
            row.finished_at = now()
        journal.add_trial(session, row, worker)
        if sample.message:
            tell(session, self._sampler.study, row.trial_id)
        return assignment_of(row), trial

    def _over(self, session: Session) -> bool:
        """Whether the budget is spent or the space is walked; a grid of very many points is, by their number."""
        left = self._sampler.untried(session)
        points = grid_size(self._spec.sampler, self._sampler.space) if left is None else None
        walked = left == [] or (points is not None and counted_trials(session, self._id) >= points)
        return walked or spent(session, self._id, self._spec) is not None
