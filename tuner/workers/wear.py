"""When a trial process, which otherwise lives on from trial to trial, should be replaced by a fresh one.

Two things cannot be mended from within: memory that trials leave behind, and a CUDA context after an error. What a
process holds after its first trial (libraries, context, caches) is taken for what it needs; once it holds more than
`FACTOR` times as much, and `SLACK` more, after a later trial, it is replaced. Memory that it shares, such as the
mapped image cache, does not count.
"""

from __future__ import annotations

import psutil

FACTOR = 2.0
SLACK = 2**30
"""Bytes."""


class Wear:
    """Watches the memory of this process from trial to trial."""

    def __init__(self) -> None:
        self._needed: int | None = None

    def after_trial(self) -> str:
        """Why the process should be replaced; empty when it should go on."""
        memory = psutil.Process().memory_info()
        held = memory.rss - memory.shared
        if self._needed is None:
            self._needed = held
        return grown(self._needed, held)


def grown(needed: int, held: int) -> str:
    """Whether memory has grown too much, in words; empty when it has not. Both in bytes."""
    if held <= FACTOR * needed or held <= needed + SLACK:
        return ""
    return f"it holds {held / 2**20:.0f} MiB, after its first trial {needed / 2**20:.0f} MiB"
