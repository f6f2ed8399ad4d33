"""What a worker does for a trial that runs: it keeps the lease, and ends a process that hangs."""

from __future__ import annotations

import time

from tuner.config.errors import FailureKind
from tuner.workers.ledger import Ledger
from tuner.workers.limits import Timing
from tuner.workers.messages import Alive, Ended
from tuner.workers.running import Running

HANG_FACTOR = 20
"""So many of its longest epochs without a new one or a sign of life, and a trial counts as hanging."""


def hang_limit(timing: Timing, own_longest: float, study_longest: float) -> float:
    """Seconds without an epoch or a sign of life after which a trial counts as hanging.

    Args:
        timing: Floor, and the limit where nothing is known.
        own_longest: The trial's longest epoch in seconds; 0 before its first.
        study_longest: That of all trials; 0 before there is any.
    """
    longest = own_longest or study_longest
    return max(timing.hang_floor, HANG_FACTOR * longest) if longest else timing.first_epoch


def watch(running: Running, ledger: Ledger, timing: Timing, *, cut: bool, at_once: bool) -> None:
    """Renew the trial's lease; end its process when it hangs, or takes too long to stop.

    Args:
        running: The trial.
        ledger: Where its lease is renewed and its end is told.
        timing: Times by which to act.
        cut: Whether the database is away.
        at_once: Whether the process shall end without saving.
    """
    if running.ended is not None:
        return  # it waits for the database
    now = time.monotonic()
    limit = hang_limit(timing, running.longest_epoch, ledger.longest_epoch)
    stopping = running.stopping_since
    if at_once or (stopping is not None and now - stopping > timing.stop_grace):
        running.slot.kill()
        ledger.end(running, Ended("interrupted"))
    elif now - running.heard > limit:
        running.slot.kill()
        longest = running.longest_epoch or ledger.longest_epoch
        compared = f", where the longest took {longest:.1f} s" if longest else ""
        message = f"no epoch and no sign of life within {limit:.0f} s{compared}"
        ledger.end(running, Ended("failed", FailureKind.KILLED, message))
    elif now - running.renewed > timing.heartbeat and not cut:
        ledger.renew(running)
    # After that: a worker that was stalled may have lost the trial, and its process must not go on before it is known.
    if now - running.spoken > timing.heartbeat and ledger.holds(running):
        running.spoken = now
        running.slot.send(Alive())
