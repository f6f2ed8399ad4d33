"""A trial process's end of the pipe to its worker."""

from __future__ import annotations

import math
import os
import queue
import threading
import time
from multiprocessing.connection import Connection

from tuner.config.alive import Activity
from tuner.workers.group import kill_the_rest
from tuner.workers.messages import Alive, Prepare, Run, Stop, ToWorker, Verdict
from tuner.workers.signs import SIGN_SECONDS, at_most_every

ORPHAN_GRACE = 60.0
"""Seconds that a process whose worker is gone may take to save its state before it ends itself."""
LOOK_SECONDS = 0.1
"""Between two looks whether a worker that was silent has spoken."""


class Mailbox:
    """The process's end of the pipe, read by a thread, so that `stop` is up to date while the trainer works.

    Attributes:
        stop: Set once the trial shall end.
        alive: Tells the worker that the trial goes on, and perhaps how far it is; may be called at any time and in any
            thread.
        silence: Seconds without a word from the worker that a trial goes on for.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._inbox: queue.SimpleQueue[Prepare | Run | Verdict | None] = queue.SimpleQueue()
        self.stop = threading.Event()
        self.alive = at_most_every(SIGN_SECONDS, self._tell)
        self.silence = math.inf
        self._heard = time.monotonic()
        threading.Thread(target=self._listen, name="mailbox", daemon=True).start()

    def receive(self) -> Prepare | Run | Verdict | None:
        """The next message; None, from then on: the worker has closed the pipe or is gone."""
        message = self._inbox.get()
        if message is None:
            self._inbox.put(None)
        return message

    def stop_requested(self) -> bool:
        """Whether the trial shall end; waits while the worker is silent for too long.

        A worker that stalls may have lost the trial to another one, and its process must not train it meanwhile.
        """
        while time.monotonic() - self._heard > self.silence and not self.stop.wait(LOOK_SECONDS):
            pass
        return self.stop.is_set()

    def send(self, message: ToWorker) -> None:
        """Tell the worker; without effect when it is gone."""
        try:
            with self._sending:
                self._connection.send(message)
        except OSError:
            self.stop.set()

    def _tell(self, done: int = 0, total: int = 0, what: Activity = "training") -> None:
        # NumPy's or torch's numbers would have the worker import these.
        self.send(Alive(int(done), int(total), what))

    def _listen(self) -> None:
        while True:
            try:
                message = self._connection.recv()
            except (EOFError, OSError):
                break
            self._heard = time.monotonic()
            if isinstance(message, Stop):
                self.stop.set()
            if isinstance(message, Stop | Alive):
                continue
            if isinstance(message, Run):
                self.stop.clear()  # here and not in the main thread, where it could undo a later Stop
            self._inbox.put(message)
        self.stop.set()
        self._inbox.put(None)
        # A trial that hangs must not hold the GPU for ever once nobody waits for it.
        time.sleep(ORPHAN_GRACE)
        kill_the_rest()
        os._exit(1)
