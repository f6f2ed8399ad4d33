"""A slot as its worker sees it: one trial process, what it works on, and how to start it again when it dies."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO

from tuner.config.errors import DeviceError
from tuner.config.openmp import spin_briefly
from tuner.workers.devices import SlotPlan
from tuner.workers.group import kill_group
from tuner.workers.messages import Prepare, ToProcess, ToWorker

MAX_STARTS = 3
"""Starts that may fail one after the other before a slot is given up."""
RESTART_DELAY = 1.0
"""Seconds before a process that died is started again; doubled with each death before a trial is finished."""
LONGEST_RESTART_DELAY = 60.0
KILL_SECONDS = 10.0
"""That a process may take to die once it was killed, before it is left to the system."""
MAX_DEVICE_FAILURES = 2
"""Failures of its device one after the other before a slot is given up: fewer than a trial has attempts."""
_THREAD_LIMITS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")


class Slot:
    """One trial process after another, for one place on one device.

    Args:
        plan: Device and threads.
        trainer: Import path of the trainer.
        log: File that the process writes its output to; appended.
        silence: See `Prepare`.

    Attributes:
        plan: Device and threads.
        log: As above.
        ready: Whether the process has said that it is.
        start_at: `time.monotonic()` before which it should not be started (again).
        put_aside: Whether it should get no further trial; set by its worker.
    """

    def __init__(self, plan: SlotPlan, trainer: str, log: Path, silence: float = math.inf) -> None:
        self.plan = plan
        self.log = log
        self.ready = False
        self.put_aside = False
        self.start_at = 0.0
        self._trainer = trainer
        self._silence = silence
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._failed_starts = 0
        self._deaths = 0
        self._device_failures = 0

    @property
    def connection(self) -> Connection | None:
        """The worker's end of the pipe, to wait on; None while no process is up."""
        return self._connection

    @property
    def up(self) -> bool:
        """Whether there is a process, living or not yet cleared away."""
        return self._process is not None

    @property
    def pid(self) -> int | None:
        """Id of the trial process; None while no process is up."""
        return self._process.pid if self._process else None

    @property
    def given_up(self) -> bool:
        """Whether every start failed, or the device does again and again."""
        return self._failed_starts >= MAX_STARTS or self._device_failures >= MAX_DEVICE_FAILURES

    @property
    def closed(self) -> bool:
        """Whether no trial comes here any more."""
        return self.given_up or self.put_aside

    def open(self, now: float) -> bool:
        """Whether a trial may be begun here, at a `time.monotonic()`."""
        return not self.closed and now >= self.start_at

    def start(self) -> None:
        """Start the process; it says `Ready` when it has imported the trainer.

        Raises:
            DeviceError: The system starts no further process.
        """
        try:
            ours, theirs = Pipe()
            with self._open_log() as log, theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "tuner.workers.trial_process", str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    env=environment(self.plan),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    process_group=0,  # a terminal's Ctrl-C reaches the worker alone, and `kill` subprocesses, too
                )
        except OSError as error:
            raise DeviceError(
                f"this machine starts no further process: {error.strerror}",
                hint="Raise the limits of processes and files (ulimit -u, -n), or end what else runs here.",
            ) from error
        self._connection = ours
        self.ready = False
        self.send(Prepare(self._trainer, self.plan.threads, self._silence))

    def _open_log(self) -> IO[bytes]:
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            return self.log.open("ab")
        except OSError:  # a full disk: the trial says so itself
            return Path(os.devnull).open("ab")

    def send(self, message: ToProcess) -> None:
        """Send; a process that is gone is noticed by `poll`, not here."""
        if self._connection is not None:
            try:
                self._connection.send(message)
            except OSError:
                return

    def receive(self) -> list[ToWorker]:
        """All messages that have arrived."""
        messages: list[ToWorker] = []
        try:
            while self._connection is not None and self._connection.poll():
                messages.append(self._connection.recv())
        except (EOFError, OSError):
            pass  # the process is dead or dying; `exit_code` says so
        self.ready = self.ready or bool(messages)
        return messages

    def exit_code(self) -> int | None:
        """Exit code of a process that has died, minus the signal that killed it; None otherwise."""
        return self._await(0.0)

    def bury(self) -> None:
        """Clear away a process that has died, and plan the next start."""
        self._failed_starts = 0 if self.ready else self._failed_starts + 1
        self.start_at = time.monotonic() + min(LONGEST_RESTART_DELAY, RESTART_DELAY * 2**self._deaths)
        self._deaths += 1
        self.kill()

    def succeeded(self) -> None:
        """A trial was finished: the next death is the first again."""
        self._deaths = 0

    def device_works(self) -> None:
        """A trial did not fail by the device."""
        self._device_failures = 0

    def device_failed(self) -> bool:
        """A trial failed by the device: a fresh process may do better; whether the slot is given up."""
        self._device_failures += 1
        self.kill()
        return self.given_up

    def kill(self) -> None:
        """End the process and its subprocesses at once; the next start may follow at once."""
        if self._process is not None:
            if self._process.returncode is None:
                kill_group(self._process.pid)
            # One that a driver or a network disk holds does not die, and must not hold up the other slots.
            self._await(KILL_SECONDS)
        self.hang_up()
        self._process = None

    def hang_up(self) -> None:
        """Close the pipe, upon which the process saves what it trains and ends by itself."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        self.ready = False

    def wait(self, grace: float) -> None:
        """Wait for the process to end, and kill it after `grace` seconds, and in any case what it leaves behind."""
        self._await(grace)
        self.kill()

    def _await(self, seconds: float) -> int | None:
        """The exit code of the process once it has died, for which it has so many seconds; None while it has not.

        What it leaves behind is killed there and then, while the number of its group cannot be another's yet.
        """
        if self._process is not None and self._process.returncode is None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
                kill_group(self._process.pid)
        return self._process.returncode if self._process else None


def python_path() -> str:
    """PYTHONPATH of what imports a trainer, which may lie in the current folder: last, so that it hides no module."""
    return os.pathsep.join(str(Path(entry).absolute()) for entry in [*sys.path, ""])


def environment(plan: SlotPlan) -> dict[str, str]:
    """The environment of a slot's process: thread limits and the GPU it may see, set before anything is imported."""
    limits = dict.fromkeys(_THREAD_LIMITS, str(plan.threads))
    environment = {**os.environ, **limits, "PYTHONPATH": python_path(), "NO_ALBUMENTATIONS_UPDATE": "1"}
    spin_briefly(environment)
    if plan.visible_gpu is not None:
        environment["CUDA_VISIBLE_DEVICES"] = plan.visible_gpu
    return environment


def describe_exit(code: int) -> str:
    """Exit code of a process in words, with the signal's name."""
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = " (perhaps the system ran out of memory)" if name == "SIGKILL" else ""
    return f"{name}{hint}"


def last_lines(log: Path, count: int = 5) -> str:
    """The end of a log file, for a message."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-count:])
