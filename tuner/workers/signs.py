"""Signs of life that a trial process gives its worker between two epochs."""

from __future__ import annotations

import math
import time

from tuner.config.alive import Activity, SignOfLife

SIGN_SECONDS = 2.0
"""Between two signs of life at least: trainers give them as often as they like, and a worker wakes up for each."""


def at_most_every(seconds: float, tell: SignOfLife) -> SignOfLife:
    """A function that calls `tell`, unless it did within the last seconds; it costs next to nothing then."""
    last = -math.inf

    def call(done: int = 0, total: int = 0, what: Activity = "training") -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= seconds:
            last = now
            tell(done, total, what)

    return call
