"""New trials for slots that have none."""

from __future__ import annotations

import socket
import time
from functools import partial
from typing import TYPE_CHECKING

import psutil

from tuner.config.errors import StorageAway, StudyError
from tuner.studies.state.provenance import TRAINER, WorkerInfo, software_versions
from tuner.studies.state.records import Assignment, TrialState
from tuner.studies.trials.leases import AskBusy
from tuner.workers.audience import Audience
from tuner.workers.devices import SlotPlan
from tuner.workers.ledger import Ledger
from tuner.workers.limits import Timing
from tuner.workers.messages import Run
from tuner.workers.running import Ending, Running
from tuner.workers.slot import Slot
from tuner.workers.task import task_of

if TYPE_CHECKING:
    from tuner.studies.workable import WorkableStudy

_BUSY_PAUSE = 0.5
"""Seconds before the next try to ask where others go first; in them the running trials are looked after."""


class Supply:
    """Asks the study for trials, and sees when there are none any more.

    Attributes:
        may_ask: Whether there may be a trial; False from an answer that there is none until something has changed.
        not_before: `time.monotonic()` before which nothing is asked.
    """

    def __init__(
        self,
        study: WorkableStudy,
        trainer: str,
        ledger: Ledger,
        audience: Audience,
        ending: Ending,
        timing: Timing,
    ) -> None:
        self.may_ask = True
        self.not_before = 0.0
        self._study = study
        self._versions = software_versions() | {TRAINER: trainer}
        self._ledger = ledger
        self._audience = audience
        self._ending = ending
        self._timing = timing
        self._asked = 0.0
        self._settled = time.monotonic() + timing.settle
        self._waiting = False
        self._said = False

    def fill(self, slot: Slot) -> None:
        """Begin a trial in a slot, where the slot is free and the study has one."""
        now = time.monotonic()
        if not self.may_ask or now < self.not_before or self._ledger.of(slot) or not slot.open(now):
            return
        try:
            if now < self._settled and self._others_may_return():
                self.not_before = now + _BUSY_PAUSE
                return
            begun = self._begin(slot)
        except StorageAway:
            self.not_before = now + self._timing.poll
        except AskBusy:
            self.not_before = time.monotonic() + _BUSY_PAUSE
        except StudyError as error:  # it has ended, or was deleted
            self._ending.because("failed", error.message)
        else:
            self.may_ask, self._asked = begun, now

    def exhausted(self) -> bool:
        """Whether the study is done; while others run its last trials, they may still be left to this worker."""
        if self.may_ask:
            return False
        try:
            counts = self._ledger.call(self._study.summary).counts
        except StorageAway:
            return False
        if not any(counts.get(state) for state in (TrialState.RUNNING, TrialState.INTERRUPTED, TrialState.PAUSED)):
            return True
        if not self._waiting:
            text = "waiting for trials of other workers, to go on with them should they be left (Ctrl-C ends)"
            self._audience.notice(text)
        self._waiting = True
        self.may_ask = time.monotonic() - self._asked >= self._timing.poll
        return False

    def _others_may_return(self) -> bool:
        """Whether others, cut off from a database that is just back, may still renew what looks abandoned."""
        here = socket.gethostname()[:255]
        unheard = [
            number
            for number, host, pid in self._ledger.call(self._study.unheard)
            if host != here or psutil.pid_exists(pid)
        ]
        if unheard and not self._said:
            numbers = ", ".join(map(str, unheard))
            wait = f"{self._timing.settle:.0f} s"
            self._audience.notice(f"trial {numbers}: its worker was not heard of; waiting {wait} in case it returns")
            self._said = True
        return bool(unheard)

    def _begin(self, slot: Slot) -> bool:
        plan, study, patience = slot.plan, self._study, self._timing.ask_patience
        if self._ledger.running:  # an ask may take long, and is waited for: not of a server that answers nobody
            self._ledger.call(study.ping)
        # Read before a trial is held: where the data are not the study's, that holds for whoever gets the trial here.
        self._ledger.call(lambda: study.fingerprint, patience=patience)
        worker, asked = WorkerInfo(device=plan.recorded, versions=self._versions), time.monotonic()
        assignment = self._ledger.call(partial(study.next_trial, worker), patience=patience)
        if assignment is None:
            return False
        running = Running(assignment, slot, renewed=asked)
        self._ledger.running.append(running)
        # Not before there is a trial for it: a spent budget starts no process.
        if not slot.up:
            slot.start()
        task = task_of(study, assignment, plan, self._micro_batch(assignment, plan))
        self._audience.tell(lambda observer: observer.trial_started(assignment, plan))
        if self._ledger.holds(running):  # an ask may take longer than a lease lasts
            slot.send(Run(task, anew=assignment.attempt_id == 1, study=study.identity))
        return True

    def _micro_batch(self, assignment: Assignment, plan: SlotPlan) -> int | None:
        """The micro-batch that earlier trials of this kind were cut down to on such a GPU."""
        if not plan.gpu:
            return None
        try:
            return self._ledger.call(partial(self._study.micro_batch, plan.gpu, assignment.config))
        except StorageAway:
            return None  # it is found again, at the cost of some batches
