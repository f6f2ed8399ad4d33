"""`WorkableStudy`: what workers need of a study, whoever decides which trials it has.

A trial goes through `asking`, `reporting`, `judging` and `ending`, in this order; `taking_over` has those that were
begun by another.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tuner.config.errors import FailureKind
from tuner.config.study import StudySpec
from tuner.config.trial import TrialConfig
from tuner.space.space import SearchSpace
from tuner.storage.database import Database
from tuner.storage.folders import make_study_folder, study_folder
from tuner.storage.tables import StudyRow
from tuner.storage.updates import lock_studies
from tuner.studies.reading import StudyReader
from tuner.studies.state import kept_checkpoints, machines, results
from tuner.studies.state.control import clear_control, set_control
from tuner.studies.state.current import load_same_data
from tuner.studies.state.presence import settle_folders
from tuner.studies.state.provenance import WorkerInfo
from tuner.studies.state.records import Assignment, TrialState
from tuner.studies.trials import leases
from tuner.studies.trials.ending import Ender
from tuner.studies.trials.reporting import Reporter
from tuner.trainers.contract import EpochResult

if TYPE_CHECKING:
    from tuner.data.coco import Dataset
    from tuner.data.fingerprint import Fingerprint


class WorkableStudy(StudyReader, ABC):
    """A study whose trials are handed out to workers one by one, trained, reported and ended.

    Attributes:
        name: Its name.
        spec: What was asked for, with this machine's data folder.
        space: The search space.
        database: Where it is.
    """

    def __init__(
        self, database: Database, row: StudyRow, spec: StudySpec, space: SearchSpace, dataset: Dataset | None = None
    ) -> None:
        super().__init__(database, row, spec)
        self.space = space
        self._loaded = dataset

    @cached_property
    def folder(self) -> Path:
        """Where its artifacts and checkpoints lie on this machine; not looked for by what needs the database alone."""
        return study_folder(self.database.url, self.name, self.identity)

    @abstractmethod
    def next_trial(self, worker: WorkerInfo) -> Assignment | None:
        """The next trial to run, held by a lease that `renew` and `report` extend; None when there is none."""

    @property
    @abstractmethod
    def _reporter(self) -> Reporter: ...

    @property
    @abstractmethod
    def _ender(self) -> Ender: ...

    @property
    def dataset(self) -> Dataset:
        """The data set on this machine, checked to be the one that the study was begun with.

        Raises:
            DataError: It is missing or broken, or differs; says in what.
        """
        return self._data[0]

    @property
    def fingerprint(self) -> Fingerprint:
        """Of the data set that the study was begun with, and that this machine has.

        Raises:
            DataError: It has not; see `dataset`.
        """
        return self._data[1]

    @cached_property
    def _data(self) -> tuple[Dataset, Fingerprint]:
        return load_same_data(self.database, self._id, self.spec, self._loaded)

    def make_folder(self) -> None:
        """Make the study's folder, so that no study of another database takes it."""
        settle_folders(self.database)
        self.folder = make_study_folder(self.database.url, self.name, self.identity)

    def ping(self) -> None:
        """Write to the database, without effect; shows that it is there and has room.

        Raises:
            StorageAway: It is out of reach.
            DiskError: Its disk is full.
        """
        self.database.run(lambda session: lock_studies(session, StudyRow.id == self._id))

    def renew(self, assignment: Assignment) -> None:
        """Extend the lease; to be called well more often than `tuner.studies.trials.leases.LEASE_SECONDS`.

        Raises:
            LeaseLost: The trial belongs to another worker now, or has ended.
        """
        self.database.run(lambda session: leases.extend(session, assignment))

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
        """End a trial whose trainer has ended; its value is the last epoch's.

        Raises:
            LeaseLost: The trial belongs to another worker now, or has ended otherwise.
            TrialFailed: It has no epoch, or its last one, before the end, has not all that the study needs.
        """
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
        self.database.run(lambda session: kept_checkpoints.remove_checkpoints(session, self._id, folder, keep))

    def micro_batch(self, gpu: str, config: TrialConfig) -> int | None:
        """The micro-batch that trials like this one were cut down to on a GPU of this model; None: none was."""
        return self.database.run(lambda session: machines.micro_batch(session, gpu, config))

    def longest_epoch(self, host: str) -> float:
        """The longest of the latest epochs of a host, in seconds; 0 where it has trained none."""
        return self.database.run(lambda session: machines.longest_epoch(session, self._id, host))

    def trained_by(self) -> str | None:
        """What trained its first epoch: `tuner.studies.state.provenance.BUILT_IN`, or the import path of a trainer.

        None where nothing is trained yet, or was by a version that did not note it.
        """
        return self.database.run(lambda session: results.trained_by(session, self._id))

    def pause(self, reason: str = "") -> bool:
        """Let all workers, those of its repeats included, save their trials and wait, until `resume`.

        Returns:
            False where the study is stopped, and stays.
        """
        return self.database.run(lambda session: set_control(session, self._id, "paused", reason))

    def resume(self) -> None:
        """Take `pause` and `stop` back; a study that has ended by a config error goes on, too."""
        self.database.run(lambda session: clear_control(session, self._id))
