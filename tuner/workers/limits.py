"""Times by which a worker acts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """Times in seconds by which a worker acts.

    Attributes:
        heartbeat: Between two renewals of a trial's lease; well below the lease itself.
        stop_grace: That a trial may take to save its state when it shall stop; then its process is killed.
        hang_floor: Without an epoch or a sign of life before a trial counts as hanging; `HANG_FACTOR` of its own
            longest epochs, where that is longer. For a trial's first epoch, as many of the longest that the study has
            seen.
        first_epoch: Likewise for a first epoch before the study has seen any.
        poll: Between two questions for work while other workers run the study's last trials.
        patience: That the database may take to answer; then trials go on without it, as they do when it is away.
        ask_patience: Likewise for a new trial, which may have to read the data set and fit a sampler.
        settle: After the database was away, before a trial is asked for: the trials of all workers look abandoned
            by then, and each worker must be able to renew its own first. A worker that starts waits as long where
            trials look abandoned, since it cannot know whether the database was away.
        stalled: That a call which took too long may go on to wait for its answer; then its connection is given up.
        longest_outage: That the database may be away before the worker gives up.
    """

    heartbeat: float = 10.0
    stop_grace: float = 60.0
    hang_floor: float = 600.0
    first_epoch: float = 6 * 3600.0
    poll: float = 2.0
    patience: float = 20.0
    ask_patience: float = 600.0
    settle: float = 20.0
    stalled: float = 90.0
    longest_outage: float = 6 * 3600.0


DEFAULT_TIMING = Timing()
