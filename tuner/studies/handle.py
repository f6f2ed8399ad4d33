"""`Study`: trials in one database, handed out to workers one by one.

Every trial of a study has the same seed, the sampler's. Two configs are then compared with the same initial
weights (where their shapes agree), the same order of images and the same draws of augmentation, so that less
of the difference between them is luck. That the winner may be the best for this seed only is what confirming
it with fresh seeds is for (decision 9 of the design).

The default config is never pruned: every gain is stated over it, which needs its value after all epochs.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from tuner.config.errors import ConfigError, DataError, FailureKind, StudyError, TunerError
from tuner.config.load import base_config
from tuner.config.study import StudySpec
from tuner.config.trial import TrialConfig
from tuner.space.space import SearchSpace
from tuner.storage.database import Database
from tuner.storage.tables import StudyRow
from tuner.storage.urls import studies_folder
from tuner.studies import history, journal, keeping, leases, pausing, remembered
from tuner.studies.asking import Asker, assignment_of
from tuner.studies.budgets import wall_seconds
from tuner.studies.control import BY_HAND, Orders, order_stop, read_orders, set_control
from tuner.studies.judging import Judge, Verdict
from tuner.studies.objective import objective_value, undefined
from tuner.studies.pausing import Rungs
from tuner.studies.promotion import finalists_of
from tuner.studies.pruners import build_pruner, promotion_rungs
from tuner.studies.reading import StudyReader
from tuner.studies.records import DUPLICATE, Assignment, TrialRecord, TrialState, WorkerInfo
from tuner.studies.tell import tell, untold
from tuner.studies.views import StudyTrials
from tuner.trainers.contract import BadConfig, EpochResult

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
        self.folder: Path = studies_folder(database.url) / row.name
        self._loaded = dataset

    @cached_property
    def _judge(self) -> Judge:
        return Judge(self.optuna, rising=self.spec.objective.direction == "maximize")

    @cached_property
    def _field(self) -> pausing.Field:
        return pausing.Field(self._id)

    @cached_property
    def _known(self) -> StudyTrials:
        """Optuna's trials, as samplers have seen them."""
        return StudyTrials(self.optuna._study_id)

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
        from tuner.data.coco import load_dataset
        from tuner.data.fingerprint import Fingerprint, fingerprint

        dataset = self._loaded or load_dataset(self.spec.data)
        found = fingerprint(self.spec.data, dataset)

        def known(session: Session) -> Fingerprint:
            row = session.get_one(StudyRow, self._id)
            if row.fingerprint is None:
                row.fingerprint = found.model_dump(mode="json")
            return Fingerprint.model_validate(row.fingerprint)

        differs = self.database.run(known).differences(found)
        if differs:
            raise DataError(
                f"the data in {self.spec.data.root} are not those that study {self.name!r} was begun with:\n  "
                + "\n  ".join(differs),
                hint="Bring the old data back, or begin another study under another name.",
            )
        return dataset

    # For workers

    def next_trial(self, worker: WorkerInfo) -> Assignment | None:
        """The next trial to run: one that was interrupted or whose worker died, else a new one.

        Returns:
            The trial, held by a lease that `renew` and `report` extend; None when the budget is spent (see
            `summary`), or the study is paused or stopped (see `orders`).

        Raises:
            StudyError: The same config error came twice, so the study has ended.
            DataError: The data set of this machine is missing, broken or another one.
            StorageError: The database is out of reach.
        """
        train = self.dataset.train
        while True:
            if not self._open():
                return None
            asker = Asker(self.database, self._id, self.optuna, self._known, self.spec, self.space, self.base)
            self._tell_all()
            assignment = self._claim(worker) or self._promote(worker, asker) or asker.ask(worker)
            if assignment is None:
                return None
            try:
                assignment = asker.resolve(assignment, train)
                twin = asker.twin(assignment)
                if twin is None:
                    return assignment
                self._end(assignment, TrialState.PRUNED, f"trains the same as trial {twin}: equal anchors", DUPLICATE)
            except ConfigError as error:
                self.fail(assignment, FailureKind.BAD_CONFIG, error.message)
            except TunerError:
                self.interrupt(assignment)
                raise

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
        self.database.run(lambda session: leases.hold(session, assignment.trial_id, assignment.attempt_id))

    def report(self, assignment: Assignment, result: EpochResult) -> bool:
        """Store an epoch, and ask the pruner. May be repeated.

        Returns:
            Whether the trial should be pruned now.

        Raises:
            LeaseLost: The trial belongs to another worker now, or has ended.
            BadConfig: The objective is undefined on the validation split.
        """
        value = objective_value(self.spec.objective.metric, result.metrics)
        missing = undefined(self.spec, result.metrics, last=result.epoch >= assignment.config.epochs)
        if missing is not None:
            raise BadConfig(
                f"the metric {missing} is undefined on the validation split, which holds nothing to measure it by",
                hint="Choose another objective or constraint, such as map.",
            )

        def record(session: Session) -> bool | Verdict:
            said = journal.record_epoch(session, assignment, result, value)
            return self._verdict(session, assignment, result.epoch, value) if said is None else said

        return self._heard(self.database.run(record))

    def complete(self, assignment: Assignment) -> None:
        """End a trial that has trained all its epochs; its value is the last epoch's."""
        self._end(assignment, TrialState.COMPLETE)

    def prune(self, assignment: Assignment, reason: str) -> None:
        """End a trial early; its value is the last epoch's."""
        self._end(assignment, TrialState.PRUNED, reason)

    def stop_early(self, assignment: Assignment) -> TrialState:
        """Do what the pruner said: end the trial as pruned, or pause it where the pruner promotes.

        Returns:
            The state of the trial now.
        """
        if not self._rungs.epochs:
            self.prune(assignment, "stopped by the pruner")
            return TrialState.PRUNED
        self._judge.drop(assignment.trial_id)
        self.database.run(lambda session: pausing.pause(session, assignment))
        return TrialState.PAUSED

    def interrupt(self, assignment: Assignment) -> None:
        """Leave a trial to the next worker, who goes on with it from its checkpoint."""
        self._judge.drop(assignment.trial_id)
        self.database.run(lambda session: journal.release(session, assignment, TrialState.INTERRUPTED))

    def fail(self, assignment: Assignment, kind: FailureKind, message: str) -> TrialState:
        """End an attempt that failed. What becomes of its trial depends on the kind (decision 12).

        Out of memory and diverged: pruned, with its last value. Killed, lost, device and disk: left to the
        next attempt, three times at most. All others: failed; the same bad config twice ends the study.

        Returns:
            The state of the trial now.
        """
        self._judge.drop(assignment.trial_id)

        def end(session: Session) -> TrialState:
            state = journal.fail_attempt(session, assignment, kind, message)
            if state is not TrialState.INTERRUPTED:
                tell(session, self.optuna, assignment.trial_id)
            return state

        return self.database.run(end)

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

    def orders(self) -> Orders:
        """What was ordered from outside."""
        return self.database.run(lambda session: read_orders(session, self._id))

    def pause(self, reason: str = "") -> None:
        """Let all workers save their trials and wait, until `resume`."""
        self.database.run(lambda session: set_control(session, self._id, "paused", reason))

    def stop(self, reason: str = "") -> None:
        """Let all workers save their trials and end; no worker takes the study until `resume`."""
        self.database.run(lambda session: set_control(session, self._id, "stopped", reason))

    def resume(self) -> None:
        """Take `pause` and `stop` back; a study that has ended by a config error goes on, too."""

        def clear(session: Session) -> None:
            set_control(session, self._id, None)
            session.get_one(StudyRow, self._id).problem = None

        self.database.run(clear)

    def stop_trial(self, number: int) -> bool:
        """End an unfinished trial as pruned with its last value.

        Returns:
            Whether it has ended; False while a worker runs it, who is told.

        Raises:
            StudyError: There is no such trial, or it has ended.
        """
        trial_id = self.database.run(lambda session: order_stop(session, self._id, number))
        for left, token in self.database.run(lambda session: leases.claimable(session, self._id)):
            if left == trial_id:
                row = self.database.run(lambda s, t=token: leases.claim(s, trial_id, t, WorkerInfo()))  # type: ignore[misc]
                if row is not None:
                    self.prune(assignment_of(row), BY_HAND)
                    return True
        return False

    # For readers

    def wall_seconds(self) -> float:
        """Seconds in which at least one trial ran, or one was repeated with another seed."""

        def read(session: Session) -> float:
            optuna_id = session.get_one(StudyRow, self._id).optuna_study_id
            ours = select(StudyRow.id).where(StudyRow.optuna_study_id.in_([optuna_id, -optuna_id]))
            return sum(wall_seconds(session, one) for one in session.scalars(ours).all())

        return self.database.run(read)

    def front(self) -> list[TrialRecord]:
        """The complete trials that keep the constraints and that no other beats in all objectives."""
        with self.database.errors():
            numbers = [trial.number for trial in self.optuna.best_trials]
        return self.trials(numbers=numbers) if numbers else []

    # Inside

    def _open(self) -> bool:
        """Whether trials may be begun; reads what another command may have changed meanwhile."""
        row = self.database.run(lambda session: session.get(StudyRow, self._id))
        if row is None:
            raise StudyError(f"study {self.name!r} was deleted")
        if row.problem is not None:
            raise StudyError(
                f"study {self.name!r} has ended: {row.problem}",
                hint="Correct the study file; where that makes another study of it, choose another name.",
            )
        spec = StudySpec.model_validate(row.spec)
        self.spec = self.spec.model_copy(update={"budget": spec.budget, "priority": spec.priority, "keep": spec.keep})
        if spec.pruner != self.spec.pruner:
            self.spec = self.spec.model_copy(update={"pruner": spec.pruner})
            self.optuna.pruner = build_pruner(spec.pruner, self.base.epochs)
        return row.control is None

    def _claim(self, worker: WorkerInfo) -> Assignment | None:
        """Take over a trial that nobody runs, unless all that is left of it is to end it."""
        for trial_id, token in self.database.run(lambda session: leases.claimable(session, self._id)):
            row = self.database.run(lambda s, i=trial_id, t=token: leases.claim(s, i, t, worker))  # type: ignore[misc]
            if row is None:
                continue
            assignment = assignment_of(row)
            self._judge.drop(trial_id)
            failed = self.database.run(lambda s, i=trial_id: journal.failed_attempts(s, i))  # type: ignore[misc]
            if failed > journal.MAX_RETRIES:
                reason = f"{failed} attempts failed, the last because its worker was not heard of any more"
                self._end(assignment, TrialState.FAILED, reason, FailureKind.LOST)
            elif row.stop:
                self.prune(assignment, BY_HAND)
            elif self._said(assignment):
                self.stop_early(assignment)
            elif row.epochs >= assignment.config.epochs:
                self.complete(assignment)
            else:
                return assignment
        return None

    @property
    def _rungs(self) -> Rungs:
        epochs, factor = promotion_rungs(self.spec.pruner, self.base.epochs) or ((), 1)
        sign = 1 if self.spec.objective.direction == "maximize" else -1
        return Rungs(epochs, factor, sign, finalists_of(epochs, self.base.epochs))

    def _promote(self, worker: WorkerInfo, asker: Asker) -> Assignment | None:
        """Go on with the best paused trial that may, after ending those that never will."""
        rungs = self._rungs
        if not rungs.epochs and not self.database.run(lambda session: pausing.paused_trials(session, self._id)):
            return None
        left = asker.left()
        if rungs.epochs and asker.exhausted():
            rungs = pausing.without_promotion(rungs)
        if self.database.run(lambda session: pausing.retire(session, self._field, rungs, left)):
            self._tell_all()
        self.remove_checkpoints()
        row = pausing.promote(self.database, self._field, rungs, worker, left)
        return None if row is None else assignment_of(row)

    def _said(self, assignment: Assignment) -> bool:
        """What the pruner said about the epochs of a trial that was interrupted; it is asked where it was not."""

        def look(session: Session) -> bool | Verdict:
            said = history.verdicts(session, assignment.trial_id)
            if any(verdict for _, _, verdict in said):
                return True
            last = next((epoch for epoch in said if epoch[0] == assignment.first_epoch - 1), None)
            return False if last is None else self._verdict(session, assignment, last[0], last[1])

        return self._heard(self.database.run(look))

    def _verdict(self, session: Session, assignment: Assignment, epoch: int, value: float | None) -> bool | Verdict:
        """Let Optuna know a trial's last epoch, ask its pruner, and store what it says."""
        more = epoch < assignment.config.epochs  # after the last epoch there is nothing to save
        with self.database.errors():
            verdict = self._judge.judge(
                session, assignment.trial_id, epoch, value, self.optuna.pruner if more else None
            )
        # The pruner is asked about the default config, too, because successive halving notes there how good it was.
        prune = verdict.prune and not assignment.is_default
        rungs = self._rungs
        if epoch in rungs.epochs:  # the default config pauses, too: it goes on later (see `tuner.studies.promotion`)
            prune = pausing.should_pause(session, self._id, rungs, assignment.number, epoch)
        if prune:
            journal.store_verdict(session, assignment.trial_id, epoch)
        return replace(verdict, prune=prune)

    def _heard(self, verdict: bool | Verdict) -> bool:
        """Remember a trial as its verdict, which is stored now, left it; returns whether it should be pruned."""
        if isinstance(verdict, bool):
            return verdict
        self._judge.keep(verdict)
        return verdict.prune

    def _end(
        self, assignment: Assignment, state: TrialState, reason: str | None = None, kind: str | None = None
    ) -> None:
        self._judge.drop(assignment.trial_id)

        def end(session: Session) -> None:
            journal.end_trial(session, assignment, state, kind, reason)
            tell(session, self.optuna, assignment.trial_id)

        self.database.run(end)

    def _tell_all(self) -> None:
        """Tell Optuna what another worker left untold."""
        for trial_id in self.database.run(lambda session: untold(session, self._id)):
            self.database.run(lambda session, i=trial_id: tell(session, self.optuna, i))  # type: ignore[misc]
