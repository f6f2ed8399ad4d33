"""The trial process of a slot: trains one trial after another and tells its worker over a pipe.

Started as ``python -m tuner.workers.trial_process FD`` with one end of a socket pair, and not by
`multiprocessing`, so that thread limits and the visible GPU are in its environment before anything is
imported, and so that a caller's script needs no ``if __name__ == "__main__"``. It stays alive between
trials: imports, the CUDA context and the trainer's caches are paid for once.
"""

from __future__ import annotations

import errno
import faulthandler
import gc
import importlib
import math
import os
import queue
import shutil
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

from tuner.config.errors import ConfigError, DataError, DeviceError, DiskError, FailureKind, TunerError, WeightsError
from tuner.trainers.contract import EpochResult, Interrupted, Trainer, TrialFailed
from tuner.trainers.detection.cuda_errors import failed_assertion, is_cuda_error, is_out_of_memory
from tuner.workers.messages import Alive, Ended, EpochReported, Prepare, Ready, Run, Stop, ToWorker, Verdict
from tuner.workers.results import read_results, write_result
from tuner.workers.signs import SIGN_SECONDS, at_most_every
from tuner.workers.wear import Wear

ORPHAN_GRACE = 60.0
"""Seconds that a process whose worker is gone may take to save its state before it ends itself."""
LOOK_SECONDS = 0.1
"""Between two looks whether a worker that was silent has spoken."""
ERROR_LOG = "error.log"
"""File in a trial's folder with the traceback of an exception that nobody foresaw."""
OWNER = "study.txt"
"""File in a trial's folder that tells whose trial it is (`Run.study`)."""
_BROKEN = "its CUDA context is broken"

_KIND_OF_ERROR: tuple[tuple[type[TunerError], FailureKind], ...] = (
    (DataError, FailureKind.BAD_DATA),
    (ConfigError, FailureKind.BAD_CONFIG),
    (WeightsError, FailureKind.BAD_CONFIG),
    (DeviceError, FailureKind.DEVICE),
    (DiskError, FailureKind.DISK),
)


class Mailbox:
    """The process's end of the pipe, read by a thread, so that `stop` is up to date while the trainer works.

    Attributes:
        stop: Set once the trial shall end.
        alive: Tells the worker that the trial goes on; may be called at any time and in any thread.
        silence: Seconds without a word from the worker that a trial goes on for.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._inbox: queue.SimpleQueue[Prepare | Run | Verdict | None] = queue.SimpleQueue()
        self.stop = threading.Event()
        self.alive = at_most_every(SIGN_SECONDS, lambda: self.send(Alive()))
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
        os._exit(1)


def load_trainer(path: str) -> Trainer:
    """Import a trainer.

    Args:
        path: "package.module:callable".

    Raises:
        ConfigError: The path has another form, or the module has no such callable.
    """
    module, _, name = path.partition(":")
    if not module or not name:
        raise ConfigError(f"trainer {path!r} is not of the form package.module:callable")
    trainer = getattr(importlib.import_module(module), name, None)
    if not callable(trainer):
        raise ConfigError(f"module {module!r} has no callable {name!r} to train with")
    loaded: Trainer = trainer
    return loaded


def run_trial(trainer: Trainer, run: Run, mailbox: Mailbox) -> Ended:
    """Train one trial to its end, reporting each epoch; every exception becomes an `Ended`.

    After one that leaves the process unusable, the process says so and ends here.
    """
    task = replace(run.task, alive=mailbox.alive)
    try:
        prepare_folder(task.workdir, run)
        left = read_results(task.workdir, task.first_epoch)
        for result in left:
            if (ended := _report(result, mailbox)) is not None:
                return ended
        if left:
            task = replace(task, first_epoch=left[-1].epoch + 1)
        results = trainer(task, mailbox.stop_requested)
        for result in results:
            if left and result.epoch == left[-1].epoch:
                continue  # the trainer may repeat what its checkpoint ends with
            write_result(task.workdir, result)
            if (ended := _report(result, mailbox)) is not None:
                # Closing a generator lets it clean up; an iterator without `close` has nothing to clean.
                getattr(results, "close", lambda: None)()
                return ended
        return Ended("complete")
    except Interrupted:
        return Ended("interrupted")
    except TrialFailed as error:
        return Ended("failed", error.kind, str(error))
    except TunerError as error:
        kind = next((kind for type_, kind in _KIND_OF_ERROR if isinstance(error, type_)), FailureKind.ERROR)
        return Ended("failed", kind, str(error))
    except Exception as error:
        ended = _unforeseen(error, task.workdir)
        if ended.worn:
            # At once, while the error still holds what was on the GPU: to free that with a broken context may abort
            # the process, and then nobody would know why.
            mailbox.send(ended)
            os._exit(1)
        return ended


def prepare_folder(folder: Path, run: Run) -> None:
    """Make a trial's folder, without what an earlier study left there.

    Raises:
        OSError: The disk is full.
    """
    owner = folder / OWNER
    found = owner.read_text(encoding="utf-8") if owner.exists() else ""  # empty where the disk was full
    if run.anew or (run.study and found and found != run.study):
        shutil.rmtree(folder, ignore_errors=True)
        found = ""
    folder.mkdir(parents=True, exist_ok=True)
    if run.study and not found:
        owner.write_text(run.study, encoding="utf-8")


def _report(result: EpochResult, mailbox: Mailbox) -> Ended | None:
    """Report an epoch and wait for the verdict; how the trial ends with it, None when it goes on."""
    mailbox.send(EpochReported(result))
    verdict = mailbox.receive()
    if verdict is None:
        return Ended("interrupted")
    return Ended("pruned") if isinstance(verdict, Verdict) and verdict.prune else None


def _unforeseen(error: Exception, workdir: Path) -> Ended:
    text = "".join(traceback.format_exception(error))
    with suppress(OSError):  # the log may lie on the disk that is full
        sys.stderr.write(text)
        sys.stderr.flush()
    summary = traceback.format_exception_only(error)[-1].strip()
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Ended("failed", FailureKind.DISK, f"no space left on the disk that holds {workdir}")
    if is_out_of_memory(error):
        return Ended("failed", FailureKind.OUT_OF_MEMORY, summary)
    broken = is_cuda_error(error)
    if broken and not failed_assertion(error):
        return Ended("failed", FailureKind.DEVICE, summary, worn=_BROKEN)
    where = f"traceback in {workdir / ERROR_LOG}"
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        (workdir / ERROR_LOG).write_text(text, encoding="utf-8")
    except OSError as full:
        where = f"traceback not saved: {full}"
    return Ended("failed", FailureKind.ERROR, f"{summary} ({where})", worn=_BROKEN if broken else "")


def _limit_threads(threads: int) -> None:
    # The environment holds the limits already; this settles them for libraries that read it otherwise.
    # Looked up, not imported: a trainer that uses neither need not pay for them.
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(threads)
    if cv2 := sys.modules.get("cv2"):
        cv2.setNumThreads(0)


def main(file_descriptor: int) -> None:
    """Serve one worker until it closes the pipe."""
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the worker decides, and says so over the pipe
    mailbox = Mailbox(Connection(file_descriptor))
    signal.signal(signal.SIGTERM, lambda *_: mailbox.stop.set())
    prepare = mailbox.receive()
    if not isinstance(prepare, Prepare):
        return
    trainer = load_trainer(prepare.trainer)
    _limit_threads(prepare.threads)
    mailbox.silence = prepare.silence
    mailbox.send(Ready())
    wear = Wear()
    while isinstance(message := mailbox.receive(), Run):
        ended = run_trial(trainer, message, mailbox)
        gc.collect()  # what the trial held must be free before the next one starts
        mailbox.send(replace(ended, worn=wear.after_trial()))


if __name__ == "__main__":
    main(int(sys.argv[1]))
