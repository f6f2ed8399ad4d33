"""`Study`: trials in one database, handed out to workers one by one.

Every trial of a study has the same seed, the sampler's. Two configs are then compared with the same initial
weights (where their shapes agree), the same order of images and the same draws of augmentation, so that less
of the difference between them is luck. That the winner may be the best for this seed only is what confirming
it with fresh seeds is for (decision 9 of the design).

A trial goes through `asking`, `reporting`, `judging` and `ending`, in this order; `taking_over` has those that were
begun by another.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from tuner.config.errors import FailureKind
from tuner.config.load import base_config
from tuner.config.study import StudySpec
from tuner.config.trial import TrialConfig
from tuner.space.space import SearchSpace
from tuner.storage.database import Database
from tuner.storage.folders import make_study_folder, study_folder
from tuner.storage.tables import ExportRow, StudyRow, TrialRow
from tuner.studies import keeping, leases, remembered
from tuner.studies.asking import Asker
from tuner.studies.control import clear_control, order_stop, set_control
from tuner.studies.current import load_same_data, read_current, with_changes
from tuner.studies.ending import Ender
from tuner.studies.field import Field, Rungs, rungs_of
from tuner.studies.judging import Judge
from tuner.studies.pruners import build_pruner
from tuner.studies.reading import StudyReader, refuse_deleted
from tuner.studies.records import Assignment, LeaseLost, TrialRecord, TrialState, WorkerInfo
from tuner.studies.reporting import Reporter
from tuner.studies.resolving import prepare
from tuner.studies.sampling import TrialSampler
from tuner.studies.taking_over import end_left, promote, take_over
from tuner.studies.tell import untold
from tuner.studies.views import StudyTrials
from tuner.trainers.contract import EpochResult

if TYPE_CHECKING:
    from tuner.data.coco import Dataset


class Study(StudyReader):
    """A study in a database; made by `create_or_open` and `open_study`.

    Attributes:
        name: Its name.
        spec: What was asked for, with this machine's data folder.
        space: The search space.
        base: The study's default config, before the space's fixed values.
        folder: Where its artifacts and checkpoints lie on this machine.
        database: Where it is.
    """

    def __init__(
        self, database: Database, row: StudyRow, spec: StudySpec, space: SearchSpace, dataset: Dataset | None = None
    ) -> None:
        super().__init__(database, row, spec)
        self.space = space
        self.base = base_config(spec)
        self.folder = study_folder(database.url, self.name, self.identity)
        self._loaded = dataset

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

    @cached_property
    def dataset(self) -> Dataset:
        """The data set on this machine, checked to be the one that the study was begun with.

        Raises:
            DataError: It is missing or broken, or differs; says in what.
        """
        return load_same_data(self.database, self._id, self.spec, self._loaded)

    # For workers

    def make_folder(self) -> None:
        """Make the study's folder, so that no study of another database takes it."""
        self.folder = make_study_folder(self.database.url, self.name, self.identity)

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

    def ping(self) -> None:
        """Write to the database, without effect; shows that it is there and has room.

        Raises:
            StorageAway: It is out of reach.
            DiskError: Its disk is full.
        """
        same = update(StudyRow).where(StudyRow.id == self._id).values(name=StudyRow.name)
        self.database.run(lambda session: session.execute(same) and None)

    def renew(self, assignment: Assignment) -> None:
        """Extend the lease; to be called well more often than `tuner.studies.leases.LEASE_SECONDS`.

        Raises:
            LeaseLost: The trial belongs to another worker now, or has ended.
        """
        self.database.run(lambda session: leases.extend(session, assignment.trial_id, assignment.attempt_id))

    def report(self, assignment: Assignment, result: EpochResult) -> bool:
        """Store an epoch, and ask the pruner. May be repeated.

        Returns:
            Whether the trial should be pruned now.

        Raises:
            LeaseLost: The trial belongs to another worker now, or has ended.
            BadConfig: The objective is undefined on the validation split.
        """
        return self._reporter.report(assignment, result)

    def complete(self, assignment: Assignment) -> None:
        """End a trial that has trained all its epochs; its value is the last epoch's."""
        self._ender.complete(assignment)

    def prune(self, assignment: Assignment, reason: str) -> None:
        """End a trial early; its value is the last epoch's."""
        self._ender.prune(assignment, reason)

    def stop_early(self, assignment: Assignment) -> TrialState:
        """Do what the pruner said: end the trial as pruned, or pause it where the pruner promotes.

        Returns:
            The state of the trial now.
        """
        return self._ender.stop_early(assignment)

    def interrupt(self, assignment: Assignment) -> None:
        """Leave a trial to the next worker, who goes on with it from its checkpoint."""
        self._ender.interrupt(assignment)

    def fail(self, assignment: Assignment, kind: FailureKind, message: str) -> TrialState:
        """End an attempt that failed. What becomes of its trial depends on the kind (decision 12).

        Out of memory and diverged: pruned, with its last value. Killed, lost and device: left to the next attempt,
        three times at most; disk and data: as often as the run is begun again. All others: failed; the same bad
        config twice ends the study.

        Returns:
            The state of the trial now.
        """
        return self._ender.fail(assignment, kind, message)

    def remove_checkpoints(self) -> None:
        """Remove this machine's checkpoints of trials that have ended, except what `StudySpec.keep` keeps."""
        folder, keep = self.folder / "trials", self.spec.keep
        self.database.run(lambda session: keeping.remove_checkpoints(session, self._id, folder, keep))

    def micro_batch(self, gpu: str, config: TrialConfig) -> int | None:
        """The micro-batch that trials like this one were cut down to on a GPU of this model; None: none was."""
        return self.database.run(lambda session: remembered.micro_batch(session, gpu, config))

    def longest_epoch(self, host: str) -> float:
        """The longest of the latest epochs of a host, in seconds; 0 where it has trained none."""
        return self.database.run(lambda session: remembered.longest_epoch(session, self._id, host))

    # From outside

    def pause(self, reason: str = "") -> bool:
        """Let all workers, those of its repeats included, save their trials and wait, until `resume`.

        Returns:
            False where the study is stopped, and stays.
        """
        return self.database.run(lambda session: set_control(session, self._id, "paused", reason))

    def stop(self, reason: str = "") -> None:
        """Let all workers, those of its repeats included, save their trials and end; none goes on until `resume`."""
        self.database.run(lambda session: set_control(session, self._id, "stopped", reason))

    def resume(self) -> None:
        """Take `pause` and `stop` back; a study that has ended by a config error goes on, too."""
        self.database.run(lambda session: clear_control(session, self._id))

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
            session.add(ExportRow(trial_id=trial_id, host=host, path=str(path.absolute()), content=content))

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
        refuse_deleted(session, self._id, self.name)
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
        return Asker(sampler, self._judge)

    @property
    def _reporter(self) -> Reporter:
        return Reporter(self.database, self._id, self.spec, self._rungs, self._field, self._judge)

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
