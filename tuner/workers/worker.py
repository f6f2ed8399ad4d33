"""The worker: the one process of a host that asks the study for trials, has them trained in slots, and tells."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import wait
from typing import TYPE_CHECKING

from tuner.config.errors import FailureKind, StudyError, TunerError
from tuner.studies.objective import criteria_of, needs_cost
from tuner.studies.records import Assignment, LeaseLost, TrialState, WorkerInfo
from tuner.trainers.contract import TrainingTask, TrialFailed
from tuner.workers.devices import SlotPlan, plan_slots
from tuner.workers.guard import FailureGuard
from tuner.workers.interrupts import Interrupts
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
            that is longer. A trial's first epoch has no limit, since nothing is known of it yet.
        poll: Between two questions for work while other workers run the study's last trials.
    """

    heartbeat: float = 10.0
    stop_grace: float = 60.0
    hang_floor: float = 600.0
    poll: float = 2.0


@dataclass
class _Running:
    """A trial in a slot."""

    assignment: Assignment
    slot: Slot
    renewed: float
    progressed: float
    longest_epoch: float = 0.0
    stopping_since: float | None = None
    verdict: Ended | None = None
    """What the study said about it, over what its process says."""


_OUTCOMES: dict[TrialState, Outcome] = {
    TrialState.INTERRUPTED: "interrupted",
    TrialState.PRUNED: "pruned",
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

    Args:
        study: Where trials come from and go to.
        slots: One trial process each; default: planned from the study's device and slots.
        trainer: Import path of the trainer, "package.module:callable" (see `tuner.trainers.contract`).
        timeout: Seconds after which running trials are interrupted and no new ones start.
        observers: Told of everything, in order.
        timing: Times by which the worker acts.

    Raises:
        StorageError: The database is out of reach.
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
                self._study.interrupt(running.assignment)
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
        result, assignment = message.result, running.assignment
        now = time.monotonic()
        running.longest_epoch = max(running.longest_epoch, now - running.progressed)
        try:
            prune = self._study.report(assignment, result)
        except LeaseLost as lost:
            self._abandon(running, str(lost))
            return
        except TrialFailed as error:
            running.verdict = Ended("failed", error.kind, error.message)
            running.slot.send(Verdict(prune=True))
            return
        # Reporting takes the database's time, not the trial's.
        running.renewed = running.progressed = time.monotonic()
        self._epochs += 1
        self._cpu_seconds += result.cpu_seconds
        running.slot.send(Verdict(prune))
        self._tell(lambda observer: observer.epoch_reported(assignment, result))

    def _end_trial(self, running: _Running, ended: Ended) -> None:
        self._running.remove(running)
        self._may_ask = True
        assignment, study = running.assignment, self._study
        ended = running.verdict or ended
        try:
            if ended.outcome == "complete":
                study.complete(assignment)
            elif ended.outcome == "pruned":
                study.prune(assignment, "stopped by the pruner")
            elif ended.outcome == "interrupted":
                study.interrupt(assignment)
            else:
                state = study.fail(assignment, ended.kind or FailureKind.ERROR, ended.message)
                ended = replace(ended, outcome=_OUTCOMES[state])
        except LeaseLost as lost:
            self._notice(f"trial {assignment.number} was taken over by another worker: {lost}")
            return
        self._tell(lambda observer: observer.trial_ended(assignment, ended))
        if ended.outcome != "interrupted" or self._ending:
            self._outcomes[ended.outcome] += 1
        if ended.outcome == "failed":
            why = self._guard.failed(assignment.number, f"{ended.kind}: {ended.message}")
            if why:
                self._end("failed", why)
        elif ended.outcome != "interrupted":
            self._guard.succeeded()

    def _abandon(self, running: _Running, why: str) -> None:
        # At once: the trial's folder belongs to another worker now.
        self._running.remove(running)
        running.slot.kill()
        self._notice(f"trial {running.assignment.number} was taken over by another worker: {why}")

    # Time, signals and work

    def _watch(self, interrupts: Interrupts) -> None:
        now = time.monotonic()
        if interrupts.requested:
            self._end("interrupted")
        elif now >= self._deadline:
            self._end("timeout")
        for running in list(self._running):
            limit = max(self._timing.hang_floor, 20 * running.longest_epoch)
            stopping = running.stopping_since
            if interrupts.at_once or (stopping is not None and now - stopping > self._timing.stop_grace):
                running.slot.kill()
                self._end_trial(running, Ended("interrupted"))
            elif running.longest_epoch and now - running.progressed > limit:
                running.slot.kill()
                message = f"no epoch within {limit:.0f} s, where the longest took {running.longest_epoch:.1f} s"
                self._end_trial(running, Ended("failed", FailureKind.KILLED, message))
            elif now - running.renewed > self._timing.heartbeat:
                running.renewed = now
                try:
                    self._study.renew(running.assignment)
                except LeaseLost as lost:
                    self._abandon(running, str(lost))

    def _end(self, reason: Reason, message: str = "") -> None:
        if self._ending:
            return
        self._ending, self._message = reason, message
        for running in self._running:
            running.stopping_since = time.monotonic()
            running.slot.send(Stop())

    def _fill(self) -> None:
        for slot in self._slots:
            if self._ending or not self._may_ask:
                return
            if self._in(slot) or slot.given_up or time.monotonic() < slot.start_at:
                continue
            plan = slot.plan
            try:
                assignment = self._study.next_trial(WorkerInfo(slot=plan.index, device=plan.label))
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
            slot.send(Run(self._task(assignment, plan)))
            now = time.monotonic()
            self._running.append(_Running(assignment, slot, renewed=now, progressed=now))
            self._tell(partial(_trial_started, assignment=assignment, plan=plan))

    def _nothing_left(self) -> bool:
        """Whether the study is done; while others run its last trials, they may still be left to this worker."""
        counts = self._study.summary().counts
        if not counts.get(TrialState.RUNNING) and not counts.get(TrialState.INTERRUPTED):
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
            sweep_nms=self._swept("nms_iou"),
            sweep_confidence=self._swept("confidence"),
            criteria=criteria_of(self._study.spec),
            measure_cost=needs_cost(self._study.spec),
        )

    def _swept(self, name: str) -> bool:
        # A threshold that the space does not mention costs no training either.
        space = self._study.space
        return name in space.swept or name not in space.dimensions

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


def _trial_started(observer: Observer, *, assignment: Assignment, plan: SlotPlan) -> None:
    observer.trial_started(assignment, plan)
