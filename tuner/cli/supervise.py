"""A worker in a child process, started again when it dies: killed for want of memory, or by a bug."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import NoReturn

import typer

from tuner.cli.coloured import secho
from tuner.cli.errors import errors_shown
from tuner.config.errors import DiskError, NoStudies, StorageAway, TunerError

RESTART_DELAY = 5.0
"""Seconds before a worker that died is started again; doubled with each death soon after a start."""
LONGEST_DELAY = 300.0
SOON = 60.0
"""A worker that dies within so many seconds has not really started."""
MAX_STARTS = 3
"""Starts that may fail one after the other before the worker is given up."""
_BUG = 70
"""Exit code of a child that an exception ended which nobody foresaw."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PR_SET_PDEATHSIG = 1


def supervised(work: Callable[[bool], int], storage: str | None) -> int:
    """Run `work` in a child process, and again, with growing delay, when the child dies without having its say.

    Signals are passed on, so Ctrl-C, SIGTERM and SIGHUP mean what they mean to a worker. Should this process be
    killed, the child is told to save and end.

    Args:
        work: Gets whether it is the first start; returns the exit code. Its database connections must be its own.
        storage: Its database. While that is away, a worker that died is not started again, but waits for it.

    Returns:
        The exit code of the child; 1 where it is given up.
    """
    signalled: list[int] = []
    failed, first = 0, True
    while True:
        started = time.monotonic()
        child = _fork()
        if child is None:
            _live(work, storage, first=first)
        code = _wait(child, signalled)
        if signalled or 0 <= code != _BUG:
            return code if code >= 0 else 128 - code
        how = "a bug" if code == _BUG else signal.Signals(-code).name
        failed = failed + 1 if time.monotonic() - started < SOON else 0
        first = False
        if failed >= MAX_STARTS:
            why = f"the worker died {failed} times soon after its start, the last time by {how}, and is given up"
            secho(f"error: {why}.", fg="red", err=True)
            typer.echo("The same command goes on with the study.", err=True)
            return 1
        delay = min(LONGEST_DELAY, RESTART_DELAY * 2 ** max(0, failed - 1))
        secho(f"The worker died by {how}; it is started again in {delay:g} s.", fg="yellow", err=True)
        try:
            time.sleep(delay)
        except KeyboardInterrupt:
            return 128 + signal.SIGINT


def _fork() -> int | None:
    """Fork; the child's id in the parent, None in the child."""
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    child = os.fork()
    if child:
        return child
    os.setpgid(0, 0)  # a terminal's Ctrl-C reaches the parent alone, which passes it on
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it was killed meanwhile
        os._exit(1)
    return None


def _live(work: Callable[[bool], int], storage: str | None, *, first: bool) -> NoReturn:
    """The child's life. It never returns: what is above it on the stack is the parent's, and is done there."""
    code = _BUG
    try:
        with errors_shown(debug="--debug" in sys.argv):
            if not first:
                _wait_for(storage)
            code = work(first)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except typer.Exit as ended:
        code = ended.exit_code
    except KeyboardInterrupt:  # before the worker listens, or when it has ended
        typer.echo("Interrupted.", err=True)
        code = 128 + signal.SIGINT
    except (TunerError, OSError):  # with --debug; another start would end like this one
        traceback.print_exc()
        code = 1
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):  # nobody reads it any more
                stream.flush()
        os._exit(code)


def _wait_for(storage: str | None) -> None:
    """Wait for a database that is away, as the worker would have that died.

    Raises:
        StorageAway: It was away for too long.
        DiskError: Its disk was full for too long.
        StorageError: It cannot be used.
    """
    from tuner.storage.database import connect
    from tuner.workers.limits import DEFAULT_TIMING

    since, pause, away = time.monotonic(), 0.5, False
    while True:
        try:
            connect(storage, create=False).close()
            break
        except NoStudies:  # it died before it had begun one
            break
        except (StorageAway, DiskError) as error:
            if time.monotonic() - since > DEFAULT_TIMING.longest_outage:
                raise
            if not away:
                secho(f"{error.message}; the worker waits for it (Ctrl-C ends).", fg="yellow", err=True)
            away, pause = True, min(10.0, 2 * pause)
            time.sleep(pause)
    if away:
        secho("The database answers again.", fg="yellow", err=True)


def _wait(child: int, signalled: list[int]) -> int:
    """Wait for the child's exit code, minus the signal that killed it, and pass signals on to it."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        signalled.append(number)
        with suppress(ProcessLookupError):
            os.kill(child, number)

    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, pass_on)
    try:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
