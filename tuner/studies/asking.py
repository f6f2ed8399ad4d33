"""Asking Optuna for a new trial, so that no crash and no second worker loses one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tuner.config.errors import StudyError
from tuner.config.study import SamplerSpec, StudySpec
from tuner.config.trial import TrialConfig
from tuner.data.split import Split
from tuner.space.space import InfeasibleConfig, SearchSpace, same_params
from tuner.storage import optuna_rows
from tuner.storage.database import Database
from tuner.storage.tables import TrialRow, now
from tuner.studies import journal
from tuner.studies.budgets import spent, untried
from tuner.studies.leases import LEASE_SECONDS, AskLock, asking
from tuner.studies.pausing import paused_trials
from tuner.studies.quiet import quiet
from tuner.studies.records import INFEASIBLE, Assignment, TrialState, WorkerInfo
from tuner.studies.samplers import build_sampler, grid_size
from tuner.studies.sight import as_pruned
from tuner.studies.tell import tell
from tuner.studies.views import Drafting, StudyTrials, changeable, seen

_MAX_INFEASIBLE = 50
_MAX_AGAIN = 100
_DEFAULT = "default"
INSTEAD = "instead_of_a_repeat_of_trial"
"""User attribute of a trial at Optuna: the trial whose parameters the sampler proposed once more."""


@dataclass(frozen=True)
class _Sample:
    """A trial as it was sampled.

    Attributes:
        waiting: The same before, where it is in the database already.
        trial: The trial; without a number and id of its own where it is new.
        config: What is trained.
        message: Why its values do not fit together; empty where they do.
    """

    waiting: FrozenTrial | None
    trial: FrozenTrial
    config: TrialConfig
    message: str


class Asker:
    """Asks for new trials of one study.

    Args:
        database: Where the study is.
        study_id: Its id in our table.
        study: Optuna's.
        known: Its trials, as this process has read them.
        spec: Its spec.
        space: What is sampled.
        base: The study's default config.
    """

    def __init__(
        self,
        database: Database,
        study_id: int,
        study: optuna.Study,
        known: StudyTrials,
        spec: StudySpec,
        space: SearchSpace,
        base: TrialConfig,
    ) -> None:
        self._database = database
        self._id = study_id
        self._study = study
        self._known = known
        self._spec = spec
        self._space = space
        self._base = base
        self._points = space.points()

    def ask(self, worker: WorkerInfo) -> Assignment | None:
        """A new trial, its anchors not resolved yet; None when the budget is spent or the grid is walked.

        Points whose values do not fit together are told to the sampler and asked for anew.

        Raises:
            StudyError: Hardly any point of the space fits together.
        """
        message = ""
        for _ in range(_MAX_INFEASIBLE):
            with asking(self._database, self._id) as lock:
                if self._database.run(self._over):
                    return None
                sample = self._sample()
                row = self._database.run(partial(self._add, lock=lock, sample=sample, worker=worker))
            if row is not None and row.state == TrialState.RUNNING:
                return assignment_of(row)
            message = sample.message or message
        raise StudyError(
            f"{_MAX_INFEASIBLE} points of the search space in a row did not fit together: {message}",
            hint="Narrow the ranges of the dimensions that the message names.",
        )

    def left(self) -> int | None:
        """Trials that may still be asked for: none where a budget is spent; None without a limit of trials."""
        if self._database.run(self._over):
            return 0
        counted = self._database.run(lambda session: journal.counted_trials(session, self._id))
        limits = [] if self._spec.budget.trials is None else [self._spec.budget.trials - counted]
        if self._points is not None:
            limits.append(len(self._untried()))
        return max(0, min(limits)) if limits else None

    def exhausted(self) -> bool:
        """Whether a budget other than that of trials is spent, so that paused trials should cost nothing more."""
        budget = self._spec.budget.model_copy(update={"trials": None})
        spec = self._spec.model_copy(update={"budget": budget})
        return self._database.run(lambda session: spent(session, self._id, spec)) is not None

    def resolve(self, assignment: Assignment, train: Split) -> Assignment:
        """The assignment with its anchors: stored ones, or made from the training split and stored.

        Raises:
            ConfigError: The anchors cannot be made.
            LeaseLost: The trial belongs to another worker now.
        """
        from tuner.models.anchors import resolve_anchors

        stored = self._database.run(lambda session: session.get_one(TrialRow, assignment.trial_id).resolved)
        if stored:
            return assignment
        config = resolve_anchors(assignment.config, train)

        def store(session: Session) -> None:
            journal.store_config(session, assignment, config)
            trial = optuna_rows.read_trial(session, assignment.trial_id)
            shown = changeable(trial)
            shown.user_attrs |= {"config": config.model_dump(mode="json"), "seed": assignment.seed}
            optuna_rows.write_changes(session, trial, shown)

        self._database.run(store)
        return replace(assignment, config=config)

    def twin(self, assignment: Assignment) -> int | None:
        """Number of an earlier trial that trains the same, though its anchors were made by another recipe."""
        if assignment.attempt_id > 1:
            return None

        def find(session: Session) -> int | None:
            alike = optuna_rows.earlier_alike(session, assignment.trial_id, but="anchors")
            others = (TrialRow.study_id == self._id, TrialRow.trial_id.in_(alike), TrialRow.resolved)
            known = session.execute(
                select(TrialRow.number, TrialRow.config).where(*others, TrialRow.state != TrialState.FAILED)
            )
            mine = assignment.config.model_dump(mode="json", exclude={"anchors"})
            return next((number for number, config in known if config | mine == config), None)

        return self._database.run(find) if "anchors" in self._space.sampled else None

    def _sample(self) -> _Sample:
        """Sample a new trial in memory, or one that waits; to be called with the right to ask.

        Where the sampler proposes what was tried already, it is another point by chance instead.
        """
        waiting, shown, asked, number = self._database.run(self._look)
        sample = self._draw(waiting, shown, asked, number)
        for attempt in range(_MAX_AGAIN if waiting is None else 0):
            tried = next((t.number for t in shown if same_params(t.params, sample.trial.params)), None)
            if tried is None:
                break
            again = np.random.default_rng([self._spec.sampler.seed, asked, attempt])
            left = None if self._points is None else self._untried()
            point = left[int(again.integers(len(left)))] if left else None
            spec = SamplerSpec(name="random", seed=int(again.integers(2**31)))
            sample = self._draw(None, shown, asked, number, sampler=spec, point=point, instead=tried)
        return sample

    def _draw(
        self,
        waiting: FrozenTrial | None,
        shown: Sequence[FrozenTrial],
        asked: int,
        number: int,
        *,
        sampler: SamplerSpec | None = None,
        point: dict[str, Any] | None = None,
        instead: int | None = None,
    ) -> _Sample:
        message = ""
        with self._database.errors(), quiet():
            built = build_sampler(sampler or self._spec.sampler, self._space, asked)
            draft = None if waiting is None else changeable(waiting)
            if draft is not None:
                draft.state = optuna.trial.TrialState.WAITING  # so that it is asked for, whoever began it
            drafting = Drafting(self._study, lambda: shown, draft=draft, number=number)
            study = optuna.Study(self._study.study_name, drafting, built)
            study.pruner = self._study.pruner  # Hyperband decides what a sampler sees
            if waiting is None and number == 0:  # nothing waits and nothing ran: the default config begins
                study.enqueue_trial(self._space.params_of(self._base), user_attrs={_DEFAULT: True})
            elif point is not None:
                study.enqueue_trial(point)
            trial = study.ask()
            if instead is not None:
                trial.set_user_attr(INSTEAD, instead)
            try:
                config = self._space.suggest(trial, self._base)
            except InfeasibleConfig as error:
                config, message = self._base, error.message
        assert drafting.draft is not None
        return _Sample(waiting, drafting.draft, config, message)

    def _look(self, session: Session) -> tuple[FrozenTrial | None, Sequence[FrozenTrial], int, int]:
        """The trial that is next, where one waits; what a sampler sees; and how many there are, here and at Optuna."""
        heads = self._known.read(session)
        waiting = self._waiting(session, heads)
        begun = [trial for trial in heads if trial.state != optuna.trial.TrialState.WAITING]
        trials = as_pruned(begun, paused_trials(session, self._id))
        # A grid is walked to its end only by a sampler that sees every trial.
        shown = trials if self._spec.sampler.name == "grid" else seen(trials, self._rising)
        self._known.fill(session, shown, "params", "system_attrs", "intermediate_values")
        asked = session.scalar(select(func.count()).where(TrialRow.study_id == self._id)) or 0
        return waiting, shown, asked, len(heads)

    def _waiting(self, session: Session, heads: Sequence[FrozenTrial]) -> FrozenTrial | None:
        """One that was asked for by a worker that died before it could say so, or waits; None: a new one is due."""
        running = [trial._trial_id for trial in heads if trial.state == optuna.trial.TrialState.RUNNING]
        ours = set(session.scalars(select(TrialRow.trial_id).where(TrialRow.trial_id.in_(running)))) if running else ()
        queue = [trial_id for trial_id in running if trial_id not in ours]
        queue += [trial._trial_id for trial in heads if trial.state == optuna.trial.TrialState.WAITING]
        return optuna_rows.read_trial(session, queue[0]) if queue else None

    def _add(self, session: Session, lock: AskLock, sample: _Sample, worker: WorkerInfo) -> TrialRow | None:
        """Write a sampled trial; None when the right to ask, or the waiting trial, was lost meanwhile."""
        if not lock.confirm(session):
            return None
        trial = changeable(sample.trial)  # so that this may be done again
        if sample.waiting is None:
            optuna_rows.add_trial(session, self._study._study_id, trial)
        elif not optuna_rows.write_changes(session, sample.waiting, trial):
            return None
        row = TrialRow(
            trial_id=trial._trial_id,
            study_id=self._id,
            number=trial.number,
            is_default=bool(trial.user_attrs.get(_DEFAULT)),
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
            tell(session, self._study, row.trial_id)
        return row

    @property
    def _rising(self) -> bool | None:
        directions = self._study.directions
        return directions[0] == optuna.study.StudyDirection.MAXIMIZE if len(directions) == 1 else None

    def _over(self, session: Session) -> bool:
        """Whether the budget is spent or the grid is walked."""
        points = grid_size(self._spec.sampler, self._space)
        walked = points is not None and journal.counted_trials(session, self._id) >= points
        walked |= self._points is not None and not untried(session, self._id, self._points)
        return walked or spent(session, self._id, self._spec) is not None

    def _untried(self) -> list[dict[str, Any]]:
        return self._database.run(lambda session: untried(session, self._id, self._points or []))


def assignment_of(row: TrialRow) -> Assignment:
    """The trial of a row, as its present attempt has it."""
    return Assignment(
        number=row.number,
        config=TrialConfig.model_validate(row.config),
        seed=row.seed,
        params=row.params,
        first_epoch=row.epochs + 1,
        attempt_id=row.token,
        trial_id=row.trial_id,
        is_default=row.is_default,
    )
