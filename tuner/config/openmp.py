"""OpenMP, whose threads compute for torch, on cores that others use too."""

from __future__ import annotations

from collections.abc import MutableMapping

SPINS = 10_000
"""Rounds for which a thread that has done its part waits awake for the others: below a millisecond. GNU's default is
300,000, longer than a turn of the scheduler: where another process holds the core of a thread that is waited for, the
waiting one holds its own in vain, at each of the hundreds of barriers of a step. Two trainings of `dense-tiny` with two
threads each on two cores took 5.7 s a step, and 0.39 s with this; alone 0.10 s either way
(`tests/benchmarks/bench_shared_cores.py`)."""


def spin_briefly(environment: MutableMapping[str, str]) -> None:
    """Limit how long threads wait awake, unless the environment says how they wait.

    Commands and trial processes do so; a script that predicts in its own process decides for itself.

    Args:
        environment: Of a process that has not imported torch yet, which reads it then.
    """
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", str(SPINS))
