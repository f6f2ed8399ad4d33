"""`Study`: a study's own trials, which its sampler proposes and its pruner judges.

Every trial of a study has the same seed, the sampler's. Two configs are then compared with the same initial
weights (where their shapes agree), the same order of images and the same draws of augmentation, so that less
of the difference between them is luck. That the winner may be the best for this seed only is what confirming
it with fresh seeds is for (decision 9 of the design).
"""

from __future__ import annotations

import socket
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from sqlalchemy import select
from sqlalchemy.orm import Session

from tuner.config.load import base_config
from tuner.config.study import StudySpec
from tuner.space.space import SearchSpace
from tuner.storage.database import Database
from tuner.storage.tables import ExportRow, StudyRow, TrialRow
from tuner.storage.texts import storable
from tuner.studies.search.pruners import build_pruner
from tuner.studies.state.control import order_stop, set_control
from tuner.studies.state.current import read_current, with_changes
from tuner.studies.state.provenance import WorkerInfo
from tuner.studies.state.records import Assignment, LeaseLost, TrialRecord
from tuner.studies.trials import leases
from tuner.studies.trials.anchors import prepare
from tuner.studies.trials.asking import Asker
from tuner.studies.trials.cached_storage import StudyTrials
from tuner.studies.trials.ending import Ender
from tuner.studies.trials.judging import Judge
from tuner.studies.trials.reporting import Pruning, Reporter
from tuner.studies.trials.rungs import Field, Rungs, rungs_of
from tuner.studies.trials.sampling import TrialSampler
from tuner.studies.trials.taking_over import end_left, promote, take_over
from tuner.studies.trials.tell import untold
from tuner.studies.workable import WorkableStudy

if TYPE_CHECKING:
    from tuner.data.coco import Dataset


class Study(WorkableStudy):
    """A study in a database; made by `create_or_open` and `open_study`.

    Attributes:
        base: The study's default config, before the space's fixed values.
    """

    def __init__(
        self, database: Database, row: StudyRow, spec: StudySpec, space: SearchSpace, dataset: Dataset | None = None
    ) -> None:
        super().__init__(database, row, spec, space, dataset)
        self.base = base_config(spec)

    @cached_property
    def optuna(self) -> optuna.Study:
        """Optuna's study, for its plots and importances; trials are asked for and told through this class."""
        with self.database.errors():
            return optuna.load_study(
                study_name=self.name,
                storage=self.database.optuna,
                sampler=optuna.samplers.RandomSampler(),  # replaced for each ask
                pruner=build_pruner(self.spec.pruner, self.base.epochs),
            )

    def next_trial(self, worker: WorkerInfo) -> Assignment | None:
        """The next trial to run: one that was interrupted or whose worker died, else a new one.

        Returns:
            The trial, held by a lease that `renew` and `report` extend; None when the budget is spent (see
            `summary`), or the study is paused or stopped (see `orders`).

        Raises:
            StudyError: The same config error came twice, so the study has ended.
            AskBusy: Other workers ask; ask again.
            DataError: The data set of this machine is missing, broken or another one.
            StorageError: The database is out of reach.
        """
        train = self.dataset.train
        while (found := self.database.run(self._look)) is not None:
            left, unknown = found
            ender, asker = self._ender, self._asker
            ender.tell(unknown)
            with suppress(LeaseLost):  # this worker was slow, and another has the trial: look again
                assignment = (
                    take_over(self.database, left, worker, self._reporter, ender)
                    or promote(self.database, self._field, self._rungs, worker, asker, ender, self.remove_checkpoints)
                    or asker.ask(worker)
                )
                if assignment is None:
                    return None
                ready = prepare(self.database, self._id, self.space, assignment, train, ender)
                if ready is not None:
                    return ready
        return None

    # From outside

    def stop(self, reason: str = "") -> None:
        """Let all workers, those of its repeats included, save their trials and end; none goes on until `resume`."""
        self.database.run(lambda session: set_control(session, self._id, "stopped", reason))

    def stop_trial(self, number: int) -> bool:
        """End an unfinished trial, and the unfinished repeats of its config, as pruned with their last values.

        Returns:
            Whether they have ended; False while a worker runs one, who is told.

        Raises:
            StudyError: There is no such trial, or all of it has ended.
        """
        ordered = self.database.run(lambda session: order_stop(session, self._id, number))
        return end_left(self.database, ordered, self._ender)

    def exported(self, trial: int, path: Path, content: dict[str, Any]) -> None:
        """Note that a production config was written from a trial on this host."""

        def add(session: Session) -> None:
            of_trial = (TrialRow.study_id == self._id, TrialRow.number == trial)
            trial_id = session.scalars(select(TrialRow.trial_id).where(*of_trial)).one()
            host = socket.gethostname()[:255]
            session.add(ExportRow(trial_id=trial_id, host=host, path=storable(str(path.absolute())), content=content))

        self.database.run(add)

    # For readers

    def front(self) -> list[TrialRecord]:
        """The complete trials that keep the constraints and that no other beats in all objectives."""
        with self.database.errors():
            numbers = [trial.number for trial in self.optuna.best_trials]
        return self.trials(numbers=numbers) if numbers else []

    # Inside

    def _look(self, session: Session) -> tuple[list[tuple[int, int]], list[int]] | None:
        """The trials that nobody runs, and those that Optuna does not know to have ended; None: none may be begun.

        Takes over what another command may have changed meanwhile.
        """
        self._refuse_deleted(session)
        row = read_current(session, self._id, self.name)
        pruner, self.spec = self.spec.pruner, with_changes(self.spec, row)
        if self.spec.pruner != pruner:
            self.optuna.pruner = build_pruner(self.spec.pruner, self.base.epochs)
        if row.control is not None:
            return None
        return leases.claimable(session, self._id), untold(session, self._id)

    @property
    def _asker(self) -> Asker:
        sampler = TrialSampler(self.database, self._id, self.optuna, self._known, self.spec, self.space, self.base)
        return Asker(sampler, self._judge, self._refuse_deleted)

    @property
    def _reporter(self) -> Reporter:
        return Reporter(self.database, self.spec, Pruning(self._judge, self._rungs, self._field))

    @property
    def _ender(self) -> Ender:
        return Ender(self.database, self.optuna, self._judge, promotes=bool(self._rungs.epochs))

    @property
    def _rungs(self) -> Rungs:
        return rungs_of(self.spec, self.base.epochs)

    @cached_property
    def _judge(self) -> Judge:
        """Has seen the trials that this process runs."""
        return Judge(self.optuna, rising=self.spec.objective.direction == "maximize")

    @cached_property
    def _known(self) -> StudyTrials:
        """Optuna's trials, as samplers have seen them."""
        return StudyTrials(self.optuna._study_id)

    @cached_property
    def _field(self) -> Field:
        """The trials, as the rule that promotes has seen them."""
        return Field(self._id)
