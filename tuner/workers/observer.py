"""What a worker tells to whoever watches it: the live table, log lines, the dashboard's pictures."""

from __future__ import annotations

import logging
import queue
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tuner.studies.state.records import Assignment
from tuner.trainers.contract import EpochResult
from tuner.workers.devices import SlotPlan
from tuner.workers.messages import Alive, Ended

Reason = Literal["finished", "elsewhere", "timeout", "interrupted", "stopped", "paused", "failed"]
"""Why a worker ended."""


@dataclass(frozen=True)
class WorkerReport:
    """What one call of `run_worker` did.

    Attributes:
        reason: Why it ended: the study's budget is spent; nothing could be begun, while there was work elsewhere; the
            time is up; Ctrl-C or SIGTERM; `tuner stop`; a full disk, for which it paused the study; failures that would
            only repeat.
        message: The same for a reader: which budget, what was said with the order, which failure. May be empty.
        complete: Trials that it finished.
        pruned: Trials that it ended early, those without a result for a reason that the sampler learns included.
        failed: Trials that failed.
        interrupted: Trials that it left with their state saved.
        epochs: Epochs that it trained.
        wall_seconds: From start to end.
        cpu_seconds: CPU time of its trials.
    """

    reason: Reason
    message: str
    complete: int
    pruned: int
    failed: int
    interrupted: int
    epochs: int
    wall_seconds: float
    cpu_seconds: float


class Observer:
    """Base of observers: does nothing. Called in the worker's own thread, after the database knows.

    An exception in an observer is reported as a notice and stops nothing.
    """

    def worker_started(self, slots: list[SlotPlan]) -> None:
        """The worker begins."""

    def trial_started(self, assignment: Assignment, slot: SlotPlan) -> None:
        """A slot got a trial; `assignment.first_epoch` is above 1 when it goes on with an interrupted one."""

    def trial_alive(self, assignment: Assignment, sign: Alive) -> None:
        """A trial says how far it is within its epoch; every few seconds at most, and nothing of it is stored."""

    def epoch_reported(self, assignment: Assignment, result: EpochResult) -> None:
        """An epoch is in the database."""

    def trial_ended(self, assignment: Assignment, ended: Ended) -> None:
        """The attempt is over, and the database knows how; "interrupted", too, where another worker has the trial."""

    def notice(self, text: str) -> None:
        """Something that a user should read, such as a process that died and is started again."""

    def tick(self) -> None:
        """About once a second."""

    def worker_ended(self, report: WorkerReport) -> None:
        """The worker is done."""


class Background(Observer):
    """Passes events to an observer that takes its time, in a thread, so that no slot waits for it.

    It gets the events of trials, in order, but neither ticks nor signs of life. A trial that was paused ends several
    times: of its endings that wait, the last alone is passed on. `worker_ended` waits until the observer has done its
    work.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._endings: Counter[int] = Counter()
        self._events: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=type(observer).__name__, daemon=True)
        self._thread.start()

    def worker_started(self, slots: list[SlotPlan]) -> None:
        """Pass on."""
        self._events.put(lambda: self._observer.worker_started(slots))

    def trial_started(self, assignment: Assignment, slot: SlotPlan) -> None:
        """Pass on."""
        self._events.put(lambda: self._observer.trial_started(assignment, slot))

    def epoch_reported(self, assignment: Assignment, result: EpochResult) -> None:
        """Pass on."""
        self._events.put(lambda: self._observer.epoch_reported(assignment, result))

    def trial_ended(self, assignment: Assignment, ended: Ended) -> None:
        """Pass on, unless the trial ends again before."""
        self._endings[assignment.trial_id] += 1
        ending = self._endings[assignment.trial_id]

        def pass_on() -> None:
            if self._endings[assignment.trial_id] == ending:
                self._observer.trial_ended(assignment, ended)

        self._events.put(pass_on)

    def notice(self, text: str) -> None:
        """Pass on."""
        self._events.put(lambda: self._observer.notice(text))

    def worker_ended(self, report: WorkerReport) -> None:
        """Pass on, and wait."""
        self._events.put(lambda: self._observer.worker_ended(report))
        self._events.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (event := self._events.get()) is not None:
            try:
                event()
            except Exception as error:  # whatever a watcher does wrong, training goes on
                name = type(self._observer).__name__
                logging.getLogger(__name__).warning("%s: %s: %s", name, type(error).__name__, error)
