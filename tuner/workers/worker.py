"""The worker: the one process of a host that asks the study for trials, has them trained in slots, and tells."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing.connection import wait
from typing import TYPE_CHECKING

from tuner.config.errors import FailureKind, StorageAway, StudyError, TunerError, plural
from tuner.config.load import base_config
from tuner.storage.urls import storage_option
from tuner.studies.state.control import BY_HAND
from tuner.studies.state.presence import REPEATS
from tuner.studies.trials import leases
from tuner.workers.audience import Audience
from tuner.workers.devices import SlotPlan, plan_slots
from tuner.workers.guard import FailureGuard
from tuner.workers.interrupts import Interrupts
from tuner.workers.ledger import Ledger
from tuner.workers.limits import DEFAULT_TIMING, Timing
from tuner.workers.line import Line
from tuner.workers.messages import Ended
from tuner.workers.observer import Observer, WorkerReport
from tuner.workers.pool import Pool
from tuner.workers.running import Ending, Running
from tuner.workers.supply import Supply
from tuner.workers.trainer_choice import BUILT_IN_TRAINER, check_built_in, recorded, refuse_another_trainer
from tuner.workers.trial_process import trainer_parts
from tuner.workers.watching import watch

if TYPE_CHECKING:
    from tuner.studies.workable import WorkableStudy


def run_worker(
    study: WorkableStudy,
    *,
    slots: Sequence[SlotPlan] | None = None,
    trainer: str = BUILT_IN_TRAINER,
    timeout: float | None = None,
    observers: Sequence[Observer] = (),
    elsewhere: Callable[[], bool] | None = None,
    timing: Timing = DEFAULT_TIMING,
) -> WorkerReport:
    """Run trials of a study until its budget is spent, the time is up, or a signal says stop.

    Ctrl-C, SIGTERM or SIGHUP once: running trials save their state and are marked as interrupted, and the next
    worker goes on with them. Ctrl-C again: at once, back to the last finished epoch. A failure in one trial
    never stops the others.

    While the database is away, trials go on, and what they report is kept and delivered when it is back,
    unless another worker has taken the trial meanwhile.

    Args:
        study: Where trials come from and go to.
        slots: One trial process each; default: planned from the study's device and slots.
        trainer: Import path of the trainer, "package.module:callable" (see `tuner.trainers.contract`).
        timeout: Seconds after which running trials are interrupted and no new ones start.
        observers: Told of everything, in order.
        elsewhere: Asked now and then while the study is paused, or others run its last trials: whether to end for work
            that waits elsewhere; None: it waits.
        timing: Times by which the worker acts.

    Raises:
        ConfigError: The trainer is not given by an import path, or the study is not for it.
        StorageError: The database refuses, or was away at the end.
        DataError: The data set is missing, broken, or not the one that the study was begun with.
        DeviceError: The built-in trainer cannot compute what the study may ask for on these slots.

    Whatever is raised, running trials have saved their state.
    """
    trainer_parts(trainer)
    study.make_folder()
    if slots is None:
        slots = plan_slots(study.spec.device, study.spec.slots)
    if trainer == BUILT_IN_TRAINER:
        check_built_in(slots, study.space, base_config(study.spec))
    refuse_another_trainer(study, trainer)
    return _Worker(study, slots, trainer, timeout, observers, elsewhere, timing).run()


class _Worker:
    def __init__(
        self,
        study: WorkableStudy,
        plans: Sequence[SlotPlan],
        trainer: str,
        timeout: float | None,
        observers: Sequence[Observer],
        elsewhere: Callable[[], bool] | None,
        timing: Timing,
    ) -> None:
        self._study = study
        self._elsewhere = elsewhere
        self._timing = timing
        self._started = time.monotonic()
        self._deadline = self._started + timeout if timeout is not None else float("inf")
        self._ending = Ending()
        self._audience = Audience(observers)
        self._interrupts = Interrupts()
        self._line = Line(
            study.ping, study.database.abandon, patience=timing.patience, stalled=timing.stalled,
            at_once=lambda: self._interrupts.at_once,
        )  # fmt: skip
        silence = leases.LEASE_SECONDS - timing.heartbeat  # a trial waits before its lease can have run out
        self._ledger = Ledger(study, self._line, self._audience, self._left, certain=silence)
        self._pool = Pool(plans, trainer, study.folder / "logs", self._ledger, self._audience, self._ending, silence)
        self._supply = Supply(study, recorded(trainer), self._ledger, self._audience, self._ending, timing)
        self._guard = FailureGuard()
        self._outcomes: Counter[str] = Counter()
        self._obeyed = self._looked = self._wondered = self._started
        self._paused = False

    def run(self) -> WorkerReport:
        self._audience.tell(lambda observer: observer.worker_started([slot.plan for slot in self._pool.slots]))
        failure: TunerError | None = None
        with self._interrupts:
            try:
                self._ledger.longest_epoch = self._study.longest_epoch(socket.gethostname())
                self._loop()
            except TunerError as error:
                failure = error
                self._ending = Ending("failed", error.message)
            finally:
                self._pool.close(0.0 if self._interrupts.at_once else self._timing.stop_grace)
        self._ledger.release()
        if failure is None and self._line.trouble is not None:  # nor should a caller ask it for what came of the run
            hint = "The same command goes on once it answers; epochs that it missed are in the folders of their trials."
            failure = StorageAway(self._ending.message or self._line.trouble.message, hint=hint)
        self._line.close()
        report = WorkerReport(
            reason=self._ending.reason or "finished",
            message=self._ending.message,
            complete=self._outcomes["complete"],
            pruned=self._outcomes["pruned"],
            failed=self._outcomes["failed"],
            interrupted=self._outcomes["interrupted"] + len(self._ledger.running),
            epochs=self._ledger.epochs,
            wall_seconds=time.monotonic() - self._started,
            cpu_seconds=self._ledger.cpu_seconds,
        )
        self._audience.tell(lambda observer: observer.worker_ended(report))
        self._audience.deliver()
        if failure is not None:
            raise failure
        return report

    def _loop(self) -> None:
        while True:
            self._pool.serve()
            self._look_around()
            for running in list(self._ledger.running):
                watch(running, self._ledger, self._timing, cut=self._line.cut, at_once=self._interrupts.at_once)
            self._supply.may_ask |= self._pool.repack()
            for slot in self._pool.slots:
                if not (self._ending.reason or self._paused or self._line.cut):
                    self._supply.fill(slot)
            self._audience.tell(lambda observer: observer.tick())
            self._audience.deliver()  # after filling, so that a slow observer keeps no slot waiting
            if not self._ledger.running and self._done():
                return
            if self._ending.reason and self._line.cut and self._undeliverable():
                return
            wait([self._interrupts.waker, *self._pool.connections], timeout=1.0)
            self._interrupts.clear()

    def _look_around(self) -> None:
        """See whether to end, whether the database is back, and what was ordered."""
        now = time.monotonic()
        if now - self._looked > self._timing.heartbeat:  # it slept, with its trials, or waited for the database
            for running in self._ledger.running:
                running.progressed += now - self._looked
                running.heard += now - self._looked
        self._looked = now
        if self._interrupts.requested:
            self._ending.because("interrupted")
        elif now >= self._deadline:
            self._ending.because("timeout")
        elif self._line.trouble is not None and now - self._line.since > self._timing.longest_outage:
            self._ending.because("failed", f"the database was away for too long: {self._line.trouble.message}")
        if self._line.restored():
            self._supply.not_before = now + self._timing.settle
            self._ledger.reconnect()
        if now - self._obeyed > self._timing.heartbeat:
            self._obey()
        if self._ending.reason:
            for running in self._ledger.running:
                running.stop()
            if self._ledger.running and not self._ending.said and not self._interrupts.at_once:
                self._ending.said = True
                self._audience.notice(
                    "saving the running trials (Ctrl-C now loses what they did since their last epoch)"
                )
            if self._line.cut and not self._ending.waits:
                self._ending.waits = True
                self._audience.notice("waiting for the database, to deliver what was kept (Ctrl-C ends at once)")

    def _obey(self) -> None:
        """Do what was ordered from outside."""
        if self._line.cut:
            return
        self._obeyed = time.monotonic()
        try:
            orders = self._ledger.call(self._study.orders)
        except StorageAway:
            return
        except StudyError as error:  # it was deleted
            self._ending.because("failed", error.message)
            return
        why = f": {orders.reason}" if orders.reason else ""
        if orders.control == "stopped":
            self._ending.because("stopped", orders.reason)
        elif orders.control == "paused" and not self._paused:
            name = self._study.name.removesuffix(REPEATS)
            command = f"tuner resume {name}{storage_option(self._study.database.url)}"
            self._audience.notice(f"the study is paused{why} (`{command}` goes on)")
        elif orders.control is None and self._paused:
            self._audience.notice("the study goes on")
            self._supply.may_ask = True
        self._paused = orders.control == "paused"
        for running in self._ledger.running:
            if running.assignment.number in orders.stop and running.verdict is None:
                running.verdict = Ended("pruned", message=BY_HAND)
                running.stop()
            elif self._paused:
                running.stop()
        if self._paused:
            self._pool.free_idle()

    def _left(self, running: Running, ended: Ended | None) -> None:
        """A trial has left its slot: what its end says about more than itself."""
        self._supply.may_ask = True
        if ended is None:
            return
        if ended.kind is FailureKind.DISK and not running.late:  # a database that is back had its disk freed
            why = f"{socket.gethostname()} cannot write: {ended.message.splitlines()[0]}"
            with suppress(StorageAway):  # each further trial would fail as well
                self._ledger.call(partial(self._study.pause, why))
            self._ending.because("paused", why)
        elif ended.kind is FailureKind.BAD_DATA:  # no other trial sees other data on this machine
            self._ending.because("failed", ended.message)
        self._pool.device_worked(running.slot, ended)
        if ended.outcome != "interrupted" or self._ending.reason:
            self._outcomes[ended.outcome] += 1
        if ended.outcome == "failed":
            number, why = running.assignment.number, f"{ended.kind}: {ended.message}"
            if message := self._guard.failed(number, why):
                self._ending.because("failed", message)
        elif ended.outcome != "interrupted":
            self._guard.succeeded()
            with suppress(StorageAway):
                self._ledger.call(self._study.remove_checkpoints)

    def _done(self) -> bool:
        """Whether there is nothing left to do, for now or for good."""
        if not (self._ending.reason or self._paused or self._supply.may_ask):
            self._obey()  # so that a study that is paused does not pass for one that is done
        if self._ending.reason:
            return True
        if self._supply.may_ask and not self._paused:
            return False
        return (not self._paused and self._supply.exhausted()) or self._leaves()

    def _leaves(self) -> bool:
        """Whether to end although the study is not done, for work that waits elsewhere."""
        now = time.monotonic()
        if self._elsewhere is None or now - self._wondered < self._timing.poll:
            return False
        self._wondered = now
        if self._elsewhere():
            self._ending.because("elsewhere")
        return self._ending.reason is not None

    def _undeliverable(self) -> bool:
        """Whether to end without the database: nothing trains, and it had time to come back."""
        waited = time.monotonic() - self._ending.since > self._timing.stop_grace
        if any(running.ended is None for running in self._ledger.running) or not (waited or self._interrupts.at_once):
            return False
        if self._ledger.kept:
            kept = plural(self._ledger.kept, "epoch")
            self._audience.notice(f"{kept} could not be delivered: the database is still away")
        return True
