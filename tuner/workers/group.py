"""The process group of a trial process: itself, and the subprocesses that its trainer has started."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import psutil


def kill_group(leader: int) -> None:
    """Kill a trial process and all its subprocesses; those of one that is dead, too, since they keep its group."""
    with suppress(ProcessLookupError, PermissionError):  # nobody is left, or none that is ours to kill
        os.killpg(leader, signal.SIGKILL)


def kill_the_rest() -> None:
    """Kill all other processes of this one's group, where it leads one: nobody else will, once its worker is gone."""
    own = os.getpid()
    if os.getpgrp() != own:
        return
    for pid in psutil.pids():
        with suppress(OSError):
            if pid != own and os.getpgid(pid) == own:
                os.kill(pid, signal.SIGKILL)
