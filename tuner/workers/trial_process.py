"""The trial process of a slot: trains one trial after another and tells its worker over a pipe.

Started as ``python -m tuner.workers.trial_process FD`` with one end of a socket pair, and not by
`multiprocessing`, so that thread limits and the visible GPU are in its environment before anything is
imported, and so that a caller's script needs no ``if __name__ == "__main__"``. It stays alive between
trials: imports, the CUDA context and the trainer's caches are paid for once.
"""

from __future__ import annotations

import atexit
import faulthandler
import gc
import importlib
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

from tuner.config.errors import ConfigError, FailureKind
from tuner.storage.identity import since
from tuner.trainers.contract import NO_EPOCH, DiskFull, EpochResult, Trainer
from tuner.workers.checked import checked, epochs_of
from tuner.workers.failures import ended_by
from tuner.workers.group import kill_the_rest
from tuner.workers.mailbox import Mailbox
from tuner.workers.messages import Ended, EpochReported, Prepare, Ready, Run, Verdict
from tuner.workers.results import read_results, write_result
from tuner.workers.wear import Wear

OWNER = "study.txt"
"""File in a trial's folder that tells whose trial it is (`Run.study`)."""


def trainer_parts(path: str) -> tuple[str, str]:
    """Module and name of a trainer, of its import path.

    Raises:
        ConfigError: It has another form, or is the trainer itself.
    """
    module, _, name = path.partition(":") if isinstance(path, str) else ("", "", "")
    if not module or not name:
        raise ConfigError(
            f"trainer {path!r} is not of the form package.module:callable",
            hint="Name it by where it is imported from, as in 'mine:train': other processes import it.",
        )
    return module, name


def load_trainer(path: str) -> Trainer:
    """Import a trainer.

    Args:
        path: "package.module:callable".

    Raises:
        ConfigError: The path has another form, or the module has no such callable.
    """
    module, name = trainer_parts(path)
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
        with _folder_in_use(task.workdir):
            prepare_folder(task.workdir, run)
            left = read_results(task.workdir, task.first_epoch)
        for result in left:
            if (ended := _report(result, mailbox)) is not None:
                return ended
        if left:
            task = replace(task, first_epoch=left[-1].epoch + 1)
        results = epochs_of(trainer, task, mailbox.stop_requested)
        previous = None
        for reported in results:
            result = checked(reported, task, previous)
            previous = result.epoch
            if left and result.epoch == left[-1].epoch:
                continue  # the trainer may repeat what its checkpoint ends with
            with _folder_in_use(task.workdir):
                write_result(task.workdir, result)
            if (ended := _report(result, mailbox)) is not None:
                results.close()  # lets a trainer clean up
                return ended
        trained = max(previous or 0, task.first_epoch - 1)
        if trained < task.config.epochs and mailbox.stop.is_set():
            return Ended("interrupted")  # it returned where it should have raised
        return Ended("complete") if trained else Ended("failed", FailureKind.ERROR, NO_EPOCH)
    except Exception as error:
        ended = ended_by(error, task.workdir)
        if ended.worn:
            # At once, while the error still holds what was on the GPU: to free that with a broken context may abort
            # the process, and then nobody would know why.
            mailbox.send(ended)
            os._exit(1)
        return ended


def prepare_folder(folder: Path, run: Run) -> None:
    """Make a trial's folder, without what an earlier study left there; one that was renamed is the same study.

    Raises:
        OSError: It cannot be written or read.
    """
    owner = folder / OWNER
    found = owner.read_text(encoding="utf-8") if owner.exists() else ""  # empty where the disk was full
    if run.anew or (run.study and found and since(found) != since(run.study)):
        shutil.rmtree(folder, ignore_errors=True)
        found = ""
    folder.mkdir(parents=True, exist_ok=True)
    if run.study and not found:
        owner.write_text(run.study, encoding="utf-8")


@contextmanager
def _folder_in_use(folder: Path) -> Iterator[None]:
    """Name what keeps a trial's folder from being used, which is never the trial's own fault.

    Raises:
        DiskFull: It cannot be written or read.
    """
    try:
        yield
    except OSError as error:
        raise DiskFull(
            f"{error.filename or folder} cannot be used: {error.strerror or error}",
            hint="Free disk space or mend that; then give the same command again.",
        ) from error


def _report(result: EpochResult, mailbox: Mailbox) -> Ended | None:
    """Report an epoch and wait for the verdict; how the trial ends with it, None when it goes on."""
    mailbox.send(EpochReported(result))
    verdict = mailbox.receive()
    if verdict is None:
        return Ended("interrupted")
    return Ended("pruned") if isinstance(verdict, Verdict) and verdict.prune else None


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
    atexit.register(kill_the_rest)  # before anything else, so that what a trainer registers runs first
    mailbox = Mailbox(Connection(file_descriptor))
    signal.signal(signal.SIGTERM, lambda *_: mailbox.stop.set())
    prepare = mailbox.receive()
    if not isinstance(prepare, Prepare):
        return
    gc.disable()  # all that is imported stays: to look for garbage among it is a fifth of the start
    try:
        trainer = load_trainer(prepare.trainer)
    except ConfigError as error:
        sys.exit(error.message)  # the last line of the log, which the worker tells
    gc.freeze()
    gc.enable()
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
