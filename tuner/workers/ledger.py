"""What running trials report, brought to the study: at once, or once the database is back."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from tuner.config.errors import FailureKind, StorageAway, TunerError, plural
from tuner.studies.state.records import Assignment, LeaseLost, TrialState
from tuner.trainers.contract import EpochResult, TrialFailed
from tuner.workers.audience import Audience
from tuner.workers.line import Line
from tuner.workers.messages import Ended, Outcome, Verdict
from tuner.workers.observer import Observer
from tuner.workers.running import Running
from tuner.workers.slot import Slot

if TYPE_CHECKING:
    from tuner.studies.workable import WorkableStudy

T = TypeVar("T")

_OUTCOMES: dict[TrialState, Outcome] = {
    TrialState.INTERRUPTED: "interrupted",
    TrialState.PRUNED: "pruned",
    TrialState.PAUSED: "paused",
    TrialState.FAILED: "failed",
}


class Ledger:
    """The trials that a worker runs, and all that it writes about them.

    Args:
        study: Whose trials they are.
        line: To the study's database.
        audience: Told of epochs and ends, after the study knows of them.
        left: Called when a trial has left its slot: with how it ended, or None where another worker has it now.
        certain: Seconds since a renewal was asked for in which a lease cannot have run out.

    Attributes:
        running: In the order in which they were begun.
        epochs: That were reported; one that a resumed trial reports again counts once.
        cpu_seconds: That they took.
        longest_epoch: In seconds, of all trials.
    """

    def __init__(
        self,
        study: WorkableStudy,
        line: Line,
        audience: Audience,
        left: Callable[[Running, Ended | None], None],
        *,
        certain: float,
    ) -> None:
        self.running: list[Running] = []
        self.epochs = 0
        self.cpu_seconds = 0.0
        self.longest_epoch = 0.0
        self._study = study
        self._line = line
        self._audience = audience
        self._left = left
        self._certain = certain
        self._said: StorageAway | None = None

    def of(self, slot: Slot) -> Running | None:
        """The trial in a slot; None where there is none."""
        return next((running for running in self.running if running.slot is slot), None)

    def call(self, work: Callable[[], T], *, patience: float | None = None) -> T:
        """Call the study, and say once when its database is away.

        Raises:
            StorageAway: It is.
        """
        try:
            return self._line.call(work, patience=patience)
        except StorageAway:
            if self._line.trouble is not None and self._line.trouble is not self._said:
                self._said = self._line.trouble
                self._audience.notice(
                    f"{self._said.message}; trials go on, and their reports are kept until it answers again"
                )
            raise

    def report(self, running: Running, result: EpochResult) -> None:
        """Take an epoch from a trial, and let the trial go on or end."""
        if not running.longest_epoch:
            self._say_what_is_repeated(running.assignment, result.epoch)
        running.longest_epoch = max(running.longest_epoch, time.monotonic() - running.progressed)
        self.longest_epoch = max(self.longest_epoch, running.longest_epoch)
        running.kept.append(result)
        try:
            self._hand_over(running)
        except LeaseLost as lost:
            self._abandon(running, str(lost))
            return
        if not self.holds(running):
            return
        # Reporting takes the database's time, not the trial's.
        running.progressed = running.heard = time.monotonic()
        running.slot.send(Verdict(running.prune))

    def end(self, running: Running, ended: Ended) -> None:
        """Take the end of a trial; where the study cannot be told now, the trial keeps its slot."""
        running.late = running.ended is not None
        running.ended = running.verdict or ended
        try:
            self._hand_over(running)
            if self._line.cut:
                return
            ended = self._conclude(running.assignment, running.verdict or running.ended)
        except StorageAway:
            return
        except LeaseLost as lost:
            self._abandon(running, str(lost))
            return
        self.running.remove(running)
        self._audience.tell(lambda observer: observer.trial_ended(running.assignment, ended))
        self._left(running, ended)

    def renew(self, running: Running) -> bool:
        """Prove that a trial is still this worker's, and extend its lease; False when it is not, or cannot be told."""
        asked = time.monotonic()
        try:
            self.call(partial(self._study.renew, running.assignment))
        except StorageAway:
            return False
        except LeaseLost as lost:
            self._abandon(running, str(lost))
            return False
        running.renewed = asked
        return True

    def holds(self, running: Running) -> bool:
        """Whether a trial may go on: its lease is known to hold, or nobody can be asked.

        An answer that was slow to come may be about a lease that has run out since, and another worker has the trial.
        """
        while time.monotonic() - running.renewed > self._certain and self.renew(running):
            pass
        return running in self.running

    def reconnect(self) -> None:
        """Prove for each trial that it is still this worker's, then deliver what was kept."""
        self._audience.notice(f"the database answers again; kept for it: {plural(self.kept, 'epoch')}")
        for running in list(self.running):
            if running.ended is not None:  # perhaps there, too, and only the answer was lost: nothing to renew then
                self.end(running, running.ended)
                continue
            if not self.renew(running):
                continue
            try:
                self._hand_over(running)
            except LeaseLost as lost:
                self._abandon(running, str(lost))

    @property
    def kept(self) -> int:
        """Epochs that the study does not know of yet."""
        return sum(len(running.kept) for running in self.running)

    def release(self) -> None:
        """Leave what still runs to the next worker, as far as the study can be told."""
        for running in self.running:
            try:
                self._line.call(partial(self._study.interrupt, running.assignment))
            except TunerError:
                continue

    def _hand_over(self, running: Running) -> None:
        """Report what is kept of a trial, in order, as far as the database takes it."""
        while running.kept and not self._line.cut:
            result, asked = running.kept[0], time.monotonic()
            try:
                running.prune |= self.call(partial(self._study.report, running.assignment, result))
            except StorageAway:
                return
            except TrialFailed as error:
                running.verdict = Ended("failed", error.kind, str(error))
                running.prune = True
                running.kept.clear()
                return
            running.kept.pop(0)
            running.renewed = asked
            self.epochs += result.epoch >= running.assignment.first_epoch
            self.cpu_seconds += result.cpu_seconds
            self._audience.tell(partial(_epoch_reported, assignment=running.assignment, result=result))

    def _conclude(self, assignment: Assignment, ended: Ended) -> Ended:
        """Tell the study how a trial ended; what became of it."""
        study = self._study
        if ended.outcome == "complete":
            try:
                self.call(partial(study.complete, assignment))
            except TrialFailed as error:
                return self._conclude(assignment, Ended("failed", error.kind, str(error)))
        elif ended.outcome == "pruned" and ended.message:
            self.call(partial(study.prune, assignment, ended.message))
        elif ended.outcome == "pruned":
            return replace(ended, outcome=_OUTCOMES[self.call(partial(study.stop_early, assignment))])
        elif ended.outcome == "interrupted":
            self.call(partial(study.interrupt, assignment))
        else:
            kind = ended.kind or FailureKind.ERROR
            state = self.call(partial(study.fail, assignment, kind, ended.message))
            return replace(ended, outcome=_OUTCOMES[state])
        return ended

    def _say_what_is_repeated(self, assignment: Assignment, first: int) -> None:
        trial, due = self._study.label(assignment), assignment.first_epoch
        if first < due - 1:  # the one before may be reported once more
            self._audience.notice(
                f"{trial} went on at epoch {first} instead of {due}: there is no later checkpoint of it here"
            )

    def _abandon(self, running: Running, why: str) -> None:
        # At once: the trial's folder belongs to another worker now.
        self.running.remove(running)
        if running.ended is None:
            running.slot.kill()
        trial = self._study.label(running.assignment)
        self._audience.notice(f"slot {running.slot.plan.index}: {trial} is stopped: {why}")
        self._audience.tell(lambda observer: observer.trial_ended(running.assignment, Ended("interrupted")))
        self._left(running, None)


def _epoch_reported(observer: Observer, *, assignment: Assignment, result: EpochResult) -> None:
    observer.epoch_reported(assignment, result)
