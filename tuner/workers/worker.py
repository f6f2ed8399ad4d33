"""The worker: the one process of a host that asks the study for trials, has them trained in slots, and tells."""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing.connection import wait
from typing import TYPE_CHECKING

from tuner.config.errors import FailureKind, StorageAway, StudyError, TunerError
from tuner.postprocess.swept import Swept
from tuner.studies.control import BY_HAND
from tuner.studies.objective import criteria_of, needs_cost
from tuner.studies.records import Assignment, LeaseLost, TrialState, WorkerInfo
from tuner.trainers.contract import EpochResult, TrainingTask, TrialFailed
from tuner.workers.devices import SlotPlan, plan_slots
from tuner.workers.guard import FailureGuard
from tuner.workers.interrupts import Interrupts
from tuner.workers.line import Line
from tuner.workers.messages import Ended, EpochReported, Outcome, Run, Stop, ToWorker, Verdict
from tuner.workers.observer import Observer, Reason, WorkerReport
from tuner.workers.slot import MAX_STARTS, Slot, describe_exit, last_lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from tuner.studies.study import Study

BUILT_IN_TRAINER = "tuner.trainers.detection.train:train"


@dataclass(frozen=True)
class Timing:
    """Times in seconds by which a worker acts.

    Attributes:
        heartbeat: Between two renewals of a trial's lease; well below the lease itself.
        stop_grace: That a trial may take to save its state when it shall stop; then its process is killed.
        hang_floor: Without an epoch before a trial counts as hanging; 20 of its own longest epochs, where
            that is longer. For a trial's first epoch, 20 of the longest that this worker has seen.
        first_epoch: Likewise for a first epoch before this worker has seen any.
        poll: Between two questions for work while other workers run the study's last trials.
        patience: That the database may take to answer; then trials go on without it, as they do when it is away.
        ask_patience: Likewise for a new trial, which may have to read the data set and fit a sampler.
        settle: After the database was away, before a new trial is asked for: the trials of all workers look
            abandoned by then, and each worker must be able to renew its own first.
        longest_outage: That the database may be away before the worker gives up.
    """

    heartbeat: float = 10.0
    stop_grace: float = 60.0
    hang_floor: float = 600.0
    first_epoch: float = 6 * 3600.0
    poll: float = 2.0
    patience: float = 20.0
    ask_patience: float = 600.0
    settle: float = 20.0
    longest_outage: float = 6 * 3600.0


@dataclass
class _Running:
    """A trial in a slot."""

    assignment: Assignment
    slot: Slot
    renewed: float
    progressed: float
    longest_epoch: float = 0.0
    stopping_since: float | None = None
    prune: bool = False
    """Whether the study has said that it should end here."""
    verdict: Ended | None = None
    """What the study said about it, over what its process says."""
    kept: list[EpochResult] = field(default_factory=list)
    """Epochs that the study does not know of yet."""
    ended: Ended | None = None
    """How it ended, where the study does not know of that yet."""


_OUTCOMES: dict[TrialState, Outcome] = {
    TrialState.INTERRUPTED: "interrupted",
    TrialState.PRUNED: "pruned",
    TrialState.PAUSED: "paused",
    TrialState.FAILED: "failed",
}


def run_worker(
    study: Study,
    *,
    slots: Sequence[SlotPlan] | None = None,
    trainer: str = BUILT_IN_TRAINER,
    timeout: float | None = None,
    observers: Sequence[Observer] = (),
    timing: Timing = Timing(),
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
        timing: Times by which the worker acts.

    Raises:
        StorageError: The database refuses.
        DataError: The data set is missing, broken, or not the one that the study was begun with.

    Whatever is raised, running trials have saved their state.
    """
    if slots is None:
        slots = plan_slots(study.spec.device, study.spec.slots)
    return _Worker(study, slots, trainer, timeout, observers, timing).run()


class _Worker:
    def __init__(
        self,
        study: Study,
        plans: Sequence[SlotPlan],
        trainer: str,
        timeout: float | None,
        observers: Sequence[Observer],
        timing: Timing,
    ) -> None:
        self._study = study
        self._slots = [
            Slot(plan, trainer, study.folder / "logs" / f"worker-{os.getpid()}-slot-{plan.index}.log") for plan in plans
        ]
        self._observers = list(observers)
        self._timing = timing
        self._started = time.monotonic()
        self._deadline = self._started + timeout if timeout is not None else float("inf")
        self._running: list[_Running] = []
        self._guard = FailureGuard()
        self._line = Line(study.ping, patience=timing.patience)
        self._longest_epoch = 0.0
        self._ask_after = 0.0
        self._obeyed = self._started
        self._paused = False
        self._said: StorageAway | None = None
        self._ending_since = 0.0
        self._may_ask = True
        self._asked = 0.0
        self._waiting = False
        self._ending: Reason | None = None
        self._message = ""
        self._outcomes: Counter[str] = Counter()
        self._epochs = 0
        self._cpu_seconds = 0.0
        self._events: list[Callable[[Observer], None]] = []

    def run(self) -> WorkerReport:
        self._tell(lambda observer: observer.worker_started([slot.plan for slot in self._slots]))
        failure: TunerError | None = None
        with Interrupts() as interrupts:
            try:
                self._loop(interrupts)
            except TunerError as error:
                failure = error
                self._ending, self._message = "failed", error.message
            finally:
                # Closed pipes tell the processes to save.
                for slot in self._slots:
                    slot.hang_up()
                for slot in self._slots:
                    slot.wait(0.0 if interrupts.at_once else self._timing.stop_grace)
        for running in self._running:
            with suppress(TunerError):
                self._line.call(partial(self._study.interrupt, running.assignment))
        self._line.close()
        report = WorkerReport(
            reason=self._ending or "finished",
            message=self._message,
            complete=self._outcomes["complete"],
            pruned=self._outcomes["pruned"],
            failed=self._outcomes["failed"],
            interrupted=self._outcomes["interrupted"] + len(self._running),
            epochs=self._epochs,
            wall_seconds=time.monotonic() - self._started,
            cpu_seconds=self._cpu_seconds,
        )
        self._tell(lambda observer: observer.worker_ended(report))
        self._deliver()
        if failure is not None:
            raise failure
        return report

    def _loop(self, interrupts: Interrupts) -> None:
        while True:
            for slot in self._slots:
                self._serve(slot)
            self._watch(interrupts)
            self._fill()
            self._tell(lambda observer: observer.tick())
            self._deliver()  # after filling, so that a slow observer keeps no slot waiting
            if not self._running and (self._ending or (not self._may_ask and self._nothing_left())):
                return
            if self._ending and self._line.cut and self._undelivered(interrupts):
                return
            pipes = [slot.connection for slot in self._slots if slot.connection is not None]
            wait([interrupts.waker, *pipes], timeout=1.0)
            interrupts.clear()

    # Slots and their messages

    def _serve(self, slot: Slot) -> None:
        code = slot.exit_code()  # before the pipe is emptied, so that no last words are lost
        for message in slot.receive():
            self._handle(slot, message)
        if code is None:
            return
        was_ready = slot.ready
        slot.bury()
        running = self._in(slot)
        how = describe_exit(code)
        if running is not None and was_ready:
            self._end_trial(running, Ended("failed", FailureKind.KILLED, f"the trial process died: {how}"))
        elif running is not None:
            self._end_trial(running, Ended("interrupted"))
        if was_ready:
            self._notice(f"slot {slot.plan.index}: the trial process died ({how}); it is started again")
            return
        why = last_lines(slot.log, 1)
        self._notice(f"slot {slot.plan.index}: the trial process did not start ({how}): {why}")
        if all(slot.given_up for slot in self._slots):
            self._end("failed", f"no trial process could be started, {MAX_STARTS} times: {why}\nSee {slot.log}.")

    def _handle(self, slot: Slot, message: ToWorker) -> None:
        running = self._in(slot)
        if running is None:
            return
        if isinstance(message, EpochReported):
            self._report(running, message)
        elif isinstance(message, Ended):
            slot.succeeded()
            self._end_trial(running, message)

    def _report(self, running: _Running, message: EpochReported) -> None:
        now = time.monotonic()
        running.longest_epoch = max(running.longest_epoch, now - running.progressed)
        self._longest_epoch = max(self._longest_epoch, running.longest_epoch)
        running.kept.append(message.result)
        try:
            self._hand_over(running)
        except LeaseLost as lost:
            self._abandon(running, str(lost))
            return
        # Reporting takes the database's time, not the trial's.
        running.progressed = time.monotonic()
        running.slot.send(Verdict(running.prune))

    def _hand_over(self, running: _Running) -> None:
        """Report what is kept of a trial, in order, as far as the database takes it."""
        assignment = running.assignment
        while running.kept and not self._line.cut:
            result = running.kept[0]
            try:
                running.prune |= self._line.call(partial(self._study.report, assignment, result))
            except StorageAway:
                self._cut()
                return
            except TrialFailed as error:
                running.verdict = Ended("failed", error.kind, error.message)
                running.prune = True
                running.kept.clear()
                return
            running.kept.pop(0)
            running.renewed = time.monotonic()
            self._epochs += 1
            self._cpu_seconds += result.cpu_seconds
            self._tell(partial(_epoch_reported, assignment=assignment, result=result))

    def _end_trial(self, running: _Running, ended: Ended) -> None:
        running.ended = running.verdict or ended
        self._conclude(running)

    def _conclude(self, running: _Running) -> None:
        """Tell the study how a trial ended; where that is not possible now, the trial keeps its slot."""
        assignment, study, ended = running.assignment, self._study, running.ended
        assert ended is not None
        try:
            self._hand_over(running)
            if self._line.cut:
                return
            ended = running.verdict or ended
            if ended.outcome == "complete":
                self._line.call(partial(study.complete, assignment))
            elif ended.outcome == "pruned":
                if ended.message:
                    self._line.call(partial(study.prune, assignment, ended.message))
                else:
                    ended = replace(ended, outcome=_OUTCOMES[self._line.call(partial(study.stop_early, assignment))])
            elif ended.outcome == "interrupted":
                self._line.call(partial(study.interrupt, assignment))
            else:
                kind = ended.kind or FailureKind.ERROR
                state = self._line.call(partial(study.fail, assignment, kind, ended.message))
                ended = replace(ended, outcome=_OUTCOMES[state])
        except StorageAway:
            self._cut()
            return
        except LeaseLost as lost:
            self._abandon(running, str(lost))
            return
        self._running.remove(running)
        self._may_ask = True
        self._tell(lambda observer: observer.trial_ended(assignment, ended))
        self._look_after(running.slot, ended)
        if ended.outcome != "interrupted" or self._ending:
            self._outcomes[ended.outcome] += 1
        if ended.outcome == "failed":
            why = self._guard.failed(assignment.number, f"{ended.kind}: {ended.message}")
            if why:
                self._end("failed", why)
        elif ended.outcome != "interrupted":
            self._guard.succeeded()

    def _look_after(self, slot: Slot, ended: Ended) -> None:
        """What a failure says about more than its trial: the disk, or the slot's device."""
        if ended.kind is FailureKind.DISK:
            try:  # each further trial would fail as well
                self._line.call(partial(self._study.pause, f"on {socket.gethostname()}: {ended.message}"))
            except StorageAway:
                self._cut()
            self._obey()
        if ended.kind is not FailureKind.DEVICE:
            slot.device_works()
        elif slot.device_failed():
            self._notice(f"slot {slot.plan.index}: {slot.plan.label} fails again and again and is put aside")
            if all(slot.given_up for slot in self._slots):
                self._end("failed", f"no device of this host works: {ended.message}")

    def _abandon(self, running: _Running, why: str) -> None:
        # At once: the trial's folder belongs to another worker now.
        self._running.remove(running)
        self._may_ask = True
        if running.ended is None:
            running.slot.kill()
        self._notice(f"trial {running.assignment.number} was taken over by another worker: {why}")

    # Time, signals and work

    def _watch(self, interrupts: Interrupts) -> None:
        now = time.monotonic()
        if interrupts.requested:
            self._end("interrupted")
        elif now >= self._deadline:
            self._end("timeout")
        elif self._line.trouble is not None and now - self._line.since > self._timing.longest_outage:
            self._end("failed", f"the database was away for too long: {self._line.trouble.message}")
        if self._line.restored():
            self._reconnect()
        if now - self._obeyed > self._timing.heartbeat:
            self._obey()
        for running in list(self._running):
            if running.ended is not None:
                continue  # it waits for the database
            longest = running.longest_epoch or self._longest_epoch
            limit = max(self._timing.hang_floor, 20 * longest) if longest else self._timing.first_epoch
            stopping = running.stopping_since
            if interrupts.at_once or (stopping is not None and now - stopping > self._timing.stop_grace):
                running.slot.kill()
                self._end_trial(running, Ended("interrupted"))
            elif now - running.progressed > limit:
                running.slot.kill()
                message = f"no epoch within {limit:.0f} s" + (
                    f", where the longest took {longest:.1f} s" if longest else ""
                )
                self._end_trial(running, Ended("failed", FailureKind.KILLED, message))
            elif now - running.renewed > self._timing.heartbeat and not self._line.cut:
                self._renew(running)

    def _obey(self) -> None:
        """Do what was ordered from outside."""
        if self._line.cut:
            return
        self._obeyed = time.monotonic()
        try:
            orders = self._line.call(self._study.orders)
        except StorageAway:
            self._cut()
            return
        except StudyError as error:  # it was deleted
            self._end("failed", error.message)
            return
        why = f": {orders.reason}" if orders.reason else ""
        if orders.control == "stopped":
            self._end("stopped", orders.reason)
        elif orders.control == "paused" and not self._paused:
            self._notice(f"the study is paused{why} (`tuner resume {self._study.name}` goes on)")
        elif orders.control is None and self._paused:
            self._notice("the study goes on")
            self._may_ask = True
        self._paused = orders.control == "paused"
        for running in self._running:
            if running.assignment.number in orders.stop and running.verdict is None:
                running.verdict = Ended("pruned", message=BY_HAND)
                self._stop(running)
            elif self._paused and running.stopping_since is None:
                self._stop(running)
        if self._paused:
            for slot in self._slots:
                if slot.up and self._in(slot) is None:
                    slot.kill()  # it waits for work; its memory is for others now

    def _stop(self, running: _Running) -> None:
        running.stopping_since = time.monotonic()
        running.slot.send(Stop())

    def _renew(self, running: _Running) -> bool:
        """Prove that a trial is still this worker's, and extend its lease; False when it is not, or cannot be told."""
        running.renewed = time.monotonic()
        try:
            self._line.call(partial(self._study.renew, running.assignment))
        except StorageAway:
            self._cut()
            return False
        except LeaseLost as lost:
            self._abandon(running, str(lost))
            return False
        return True

    # A database that is away

    def _cut(self) -> None:
        """Say once that the database is away."""
        if self._line.trouble is not None and self._line.trouble is not self._said:
            self._said = self._line.trouble
            self._notice(f"{self._said.message}; trials go on, and their reports are kept until it answers again")

    def _reconnect(self) -> None:
        """Prove for each trial that it is still this worker's, then deliver what was kept."""
        self._ask_after = time.monotonic() + self._timing.settle
        kept = sum(len(running.kept) for running in self._running)
        self._notice(f"the database answers again; {kept} epochs were kept for it")
        for running in list(self._running):
            if not self._renew(running):
                continue
            if running.ended is not None:
                self._conclude(running)
                continue
            try:
                self._hand_over(running)
            except LeaseLost as lost:
                self._abandon(running, str(lost))

    def _undelivered(self, interrupts: Interrupts) -> bool:
        """Whether the worker should end without the database: nothing trains, and it had time to come back."""
        waited = time.monotonic() - self._ending_since > self._timing.stop_grace
        if any(running.ended is None for running in self._running) or not (waited or interrupts.at_once):
            return False
        if kept := sum(len(running.kept) for running in self._running):
            self._notice(f"{kept} epochs could not be delivered: the database is still away")
        return True

    def _end(self, reason: Reason, message: str = "") -> None:
        if self._ending:
            return
        self._ending, self._message = reason, message
        self._ending_since = time.monotonic()
        if self._line.cut:
            self._notice("waiting for the database, to deliver what was kept (Ctrl-C ends at once)")
        for running in self._running:
            if running.ended is None:
                self._stop(running)

    def _fill(self) -> None:
        for slot in self._slots:
            if (
                self._ending
                or self._paused
                or not self._may_ask
                or self._line.cut
                or time.monotonic() < self._ask_after
            ):
                return
            if self._in(slot) or slot.given_up or time.monotonic() < slot.start_at:
                continue
            plan = slot.plan
            try:
                worker = WorkerInfo(slot=plan.index, device=plan.label)
                assignment = self._line.call(
                    partial(self._study.next_trial, worker), patience=self._timing.ask_patience
                )
            except StorageAway:
                self._cut()
                return
            except StudyError as error:  # it has ended, or was deleted
                self._end("failed", error.message)
                return
            if assignment is None:
                self._may_ask = False
                self._asked = time.monotonic()
                return
            # Not before there is a trial for it: a spent budget starts no process.
            if not slot.up:
                slot.start()
            slot.send(Run(self._task(assignment, plan), assignment.first_epoch, assignment.attempt_id == 1))
            now = time.monotonic()
            self._running.append(_Running(assignment, slot, renewed=now, progressed=now))
            self._tell(partial(_trial_started, assignment=assignment, plan=plan))

    def _nothing_left(self) -> bool:
        """Whether the study is done; while others run its last trials, they may still be left to this worker."""
        self._obey()  # so that a study that is paused does not pass for one that is done
        if self._ending or self._paused:
            return bool(self._ending)
        try:
            counts = self._line.call(self._study.summary).counts
        except StorageAway:
            self._cut()
            return False
        if not any(counts.get(state) for state in (TrialState.RUNNING, TrialState.INTERRUPTED, TrialState.PAUSED)):
            return True
        if not self._waiting:
            self._notice("waiting for trials of other workers, to go on with them should they be left (Ctrl-C ends)")
        self._waiting = True
        self._may_ask = time.monotonic() - self._asked >= self._timing.poll
        return False

    def _task(self, assignment: Assignment, plan: SlotPlan) -> TrainingTask:
        folder = self._study.folder
        return TrainingTask(
            config=assignment.config,
            seed=assignment.seed,
            data=self._study.spec.data,
            device=plan.device,
            threads=plan.threads,
            workdir=folder / "trials" / str(assignment.number),
            cache_dir=folder.parent / "cache",
            swept=Swept.of(self._study.space, assignment.config),
            criteria=criteria_of(self._study.spec),
            measure_cost=needs_cost(self._study.spec),
        )

    def _in(self, slot: Slot) -> _Running | None:
        return next((running for running in self._running if running.slot is slot), None)

    # Observers

    def _notice(self, text: str) -> None:
        self._tell(lambda observer: observer.notice(text))

    def _tell(self, event: Callable[[Observer], None]) -> None:
        self._events.append(event)

    def _deliver(self) -> None:
        while self._events:
            event = self._events.pop(0)
            for observer in self._observers:
                try:
                    event(observer)
                except Exception as error:  # whatever a watcher does wrong, training goes on
                    text = f"{type(observer).__name__}: {type(error).__name__}: {error}"
                    for other in self._observers:
                        if other is not observer:
                            other.notice(text)


def _epoch_reported(observer: Observer, *, assignment: Assignment, result: EpochResult) -> None:
    observer.epoch_reported(assignment, result)


def _trial_started(observer: Observer, *, assignment: Assignment, plan: SlotPlan) -> None:
    observer.trial_started(assignment, plan)
