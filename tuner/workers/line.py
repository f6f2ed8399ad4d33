"""A worker's line to the database, which may be cut for minutes without keeping a trial waiting."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any, TypeVar

from tuner.config.errors import DiskError, StorageAway, TunerError

T = TypeVar("T")

_LONGEST_PAUSE = 10.0
_LOOK = 0.2
"""Seconds between two looks whether to wait on for an answer."""
_HURRY = 2.0
"""Seconds that a call may take where the worker shall end at once."""


class Line:
    """Makes all calls to the database in one thread, so that a server that does not answer stalls no trial.

    After a call that failed because the database is away, or took too long, the line is cut: further calls
    fail at once, while the thread asks until there is an answer. A call that took too long may still have had
    its effect, so only calls that may be repeated should be made.

    Args:
        ping: A small write to the database; raises as long as the database is away.
        abandon: Ends what a call waits for, so that it fails.
        patience: Seconds that a call may take.
        stalled: Seconds that a call or a ping may go on before it is abandoned.
        at_once: Whether the worker shall end at once, and wait for no answer for long.
        pause: Seconds before the first question whether the database is back; doubled up to ten.

    Attributes:
        trouble: Why the line is cut; None while it is not.
        since: `time.monotonic()` when it was cut.
    """

    def __init__(
        self,
        ping: Callable[[], None],
        abandon: Callable[[], None],
        *,
        patience: float,
        stalled: float,
        at_once: Callable[[], bool] = lambda: False,
        pause: float = 0.5,
    ) -> None:
        self.trouble: StorageAway | None = None
        self.since = 0.0
        self._ping = ping
        self._abandon = abandon
        self._patience = patience
        self._stalled = stalled
        self._at_once = at_once
        self._asked: float | None = None
        """When the thread asked what it waits for; None while it waits for no answer."""
        self._pause = pause
        self._closed = threading.Event()
        self._back: Future[None] = Future()
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        # A daemon: a call that never returns must not keep the worker from ending.
        threading.Thread(target=self._work, name="database", daemon=True).start()

    @property
    def cut(self) -> bool:
        """Whether the database is away."""
        return self.trouble is not None

    def call(self, work: Callable[[], T], *, patience: float | None = None) -> T:
        """Make a call and return its answer.

        Raises:
            StorageAway: The database is away, its disk is full, or the call took longer than `patience`.
        """
        if self.trouble is not None:
            raise StorageAway(self.trouble.message, hint=self.trouble.hint)
        answer = self._submit(work)
        limit, asked = patience or self._patience, time.monotonic()
        while not answer.done() and time.monotonic() - asked < (min(limit, _HURRY) if self._at_once() else limit):
            wait([answer], min(_LOOK, limit))
        try:
            return answer.result(0)
        except TimeoutError:
            why = StorageAway(f"the database has not answered within {time.monotonic() - asked:.0f} s")
        except StorageAway as error:
            why = error
        except DiskError as error:
            why = StorageAway(f"{error.message}: free some space there", hint=error.hint)
        self.trouble, self.since = why, time.monotonic()
        self._back = self._submit(self._wait_for_answer)
        raise why

    def restored(self) -> bool:
        """Whether the database has come back since the last question; from then on calls are made again."""
        if self.trouble is None:
            return False
        asked = self._asked
        if asked is not None and time.monotonic() - asked > self._stalled:
            self._asked = time.monotonic()  # what comes of it takes a moment
            self._abandon()
        if not self._back.done():
            return False
        self.trouble = None
        return True

    def close(self) -> None:
        """End the thread, as soon as a call that it makes is over."""
        self._closed.set()
        self._jobs.put(None)

    def _submit(self, work: Callable[[], T]) -> Future[T]:
        answer: Future[T] = Future()
        self._jobs.put((work, answer))
        return answer

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            work, answer = job
            self._asked = time.monotonic()
            try:
                found = work()
            except BaseException as error:
                self._asked = None
                answer.set_exception(error)
            else:
                self._asked = None
                answer.set_result(found)

    def _wait_for_answer(self) -> None:
        pause, self._asked = self._pause, None
        while not self._closed.wait(pause):
            try:
                self._asked = time.monotonic()
                self._ping()
            except (StorageAway, DiskError):
                pause, self._asked = min(_LONGEST_PAUSE, 2 * pause), None
            except TunerError:
                return  # it answers; the next call tells what is wrong
            else:
                return
