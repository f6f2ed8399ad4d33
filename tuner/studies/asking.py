"""Asking Optuna for a new trial, so that no crash and no second worker loses one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import optuna
from optuna.trial import FrozenTrial
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tuner.config.errors import StudyError
from tuner.config.study import StudySpec
from tuner.config.trial import TrialConfig
from tuner.data.split import Split
from tuner.space.space import InfeasibleConfig, SearchSpace
from tuner.storage.database import Database
from tuner.storage.tables import TrialRow, now
from tuner.studies import journal
from tuner.studies.budgets import spent
from tuner.studies.leases import LEASE_SECONDS, asking
from tuner.studies.pausing import paused_trials
from tuner.studies.quiet import quiet
from tuner.studies.records import INFEASIBLE, Assignment, TrialState, WorkerInfo
from tuner.studies.samplers import build_sampler, grid_size
from tuner.studies.sight import as_pruned
from tuner.studies.tell import tell
from tuner.studies.views import Drafting, seen

_MAX_INFEASIBLE = 50
_DEFAULT = "default"


class Asker:
    """Asks for new trials of one study.

    Args:
        database: Where the study is.
        study_id: Its id in our table.
        study: Optuna's.
        spec: Its spec.
        space: What is sampled.
        base: The study's default config.
    """

    def __init__(
        self,
        database: Database,
        study_id: int,
        study: optuna.Study,
        spec: StudySpec,
        space: SearchSpace,
        base: TrialConfig,
    ) -> None:
        self._database = database
        self._id = study_id
        self._study = study
        self._spec = spec
        self._space = space
        self._base = base

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
                row, message = self._sample()
                if not self._database.run(lambda s, r=row: journal.add_trial(s, lock, r, worker)):  # type: ignore[misc]
                    continue
            if row.state == TrialState.RUNNING:
                return assignment_of(row)
            tell(self._database, self._study, row.trial_id)
        raise StudyError(
            f"{_MAX_INFEASIBLE} points of the search space in a row did not fit together: {message}",
            hint="Narrow the ranges of the dimensions that the message names.",
        )

    def left(self) -> int | None:
        """Trials that may still be asked for: none where a budget is spent; None without a limit of trials."""
        if self._database.run(self._over):
            return 0
        counted = self._database.run(lambda session: journal.counted_trials(session, self._id))
        limits = [n for n in (self._spec.budget.trials, grid_size(self._spec.sampler, self._space)) if n]
        return max(0, min(limits) - counted) if limits else None

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
        self._database.run(lambda session: journal.store_config(session, assignment, config))
        with self._database.errors():
            show = self._database.optuna.set_trial_user_attr
            show(assignment.trial_id, "config", config.model_dump(mode="json"))
            show(assignment.trial_id, "seed", assignment.seed)
        return replace(assignment, config=config)

    def _sample(self) -> tuple[TrialRow, str]:
        """A new row, and why its values do not fit together; to be called with the right to ask."""
        message = ""
        with self._database.errors(), quiet():
            paused = self._database.run(lambda session: paused_trials(session, self._id))
            trials = as_pruned(self._study.get_trials(deepcopy=False), paused)
            sampler = build_sampler(self._spec.sampler, self._space, self._database.run(self._asked))
            # A grid is walked to its end only by a sampler that sees every trial.
            shown = trials if self._spec.sampler.name == "grid" else seen(trials, self._rising)
            drafting = Drafting(self._database.optuna, self._study._study_id, shown, len(trials))
            known = self._open_trial(trials)
            study = optuna.Study(self._study.study_name, self._study._storage if known else drafting, sampler)
            study.pruner = self._study.pruner  # Hyperband decides what a sampler sees
            trial = optuna.trial.Trial(study, known) if known else study.ask()
            try:
                config = self._space.suggest(trial, self._base)
            except InfeasibleConfig as error:
                config, message = self._base, error.message
            trial_id = known or drafting.keep()._trial_id
        row = TrialRow(
            trial_id=trial_id,
            study_id=self._id,
            number=trial.number,
            is_default=bool(trial.user_attrs.get(_DEFAULT)),
            seed=self._spec.sampler.seed,
            params=trial.params,
            config=config.model_dump(mode="json"),
            state=TrialState.RUNNING,
            token=1,
            epochs=0,
            lease_until=now() + LEASE_SECONDS,
        )
        if message:
            row.state, row.kind, row.reason, row.token = TrialState.PRUNED, INFEASIBLE, message, 0
            row.finished_at = now()
        return row, message

    def _open_trial(self, trials: Sequence[FrozenTrial]) -> int | None:
        """One that waits, or was asked for by a worker that died before it could say so; None: a new one is due."""
        running = [trial._trial_id for trial in trials if trial.state == optuna.trial.TrialState.RUNNING]
        ours = self._database.run(
            lambda session: set(session.scalars(select(TrialRow.trial_id).where(TrialRow.trial_id.in_(running))))
        )
        orphan = next((trial_id for trial_id in running if trial_id not in ours), None)
        if orphan is not None:
            return orphan
        if not trials:
            # Nothing waits and nothing ran: the default config begins.
            self._study.enqueue_trial(self._space.params_of(self._base), user_attrs={_DEFAULT: True})
        elif all(trial.state != optuna.trial.TrialState.WAITING for trial in trials):
            return None
        return self._study.ask()._trial_id

    @property
    def _rising(self) -> bool | None:
        directions = self._study.directions
        return directions[0] == optuna.study.StudyDirection.MAXIMIZE if len(directions) == 1 else None

    def _over(self, session: Session) -> bool:
        """Whether the budget is spent or the grid is walked."""
        points = grid_size(self._spec.sampler, self._space)
        walked = points is not None and journal.counted_trials(session, self._id) >= points
        return walked or spent(session, self._id, self._spec) is not None

    def _asked(self, session: Session) -> int:
        return session.scalar(select(func.count()).where(TrialRow.study_id == self._id)) or 0


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
