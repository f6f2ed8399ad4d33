"""A trial in a slot, and the worker's way to its end."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from tuner.studies.state.records import Assignment
from tuner.trainers.contract import EpochResult
from tuner.workers.messages import Ended, Stop
from tuner.workers.observer import Reason
from tuner.workers.slot import Slot


@dataclass
class Running:
    """A trial in a slot.

    Attributes:
        assignment: The trial.
        slot: Where its process is.
        renewed: When its lease was renewed last (`time.monotonic`, like all times here).
        spoken: When its process was last told that the worker is alive.
        progressed: When its last epoch was dealt with.
        heard: When it last gave a sign of life: then, or later.
        longest_epoch: In seconds; 0 before the first.
        stopping_since: When it was told to save and end; None before.
        prune: Whether the study has said that it should end here.
        verdict: What the study said about its end, over what its process says.
        kept: Epochs that the study does not know of yet.
        ended: How it ended, where the study does not know of that yet.
        late: Whether its end had to wait for the database.
    """

    assignment: Assignment
    slot: Slot
    renewed: float = field(default_factory=time.monotonic)
    spoken: float = field(default_factory=time.monotonic)
    progressed: float = field(default_factory=time.monotonic)
    heard: float = field(default_factory=time.monotonic)
    longest_epoch: float = 0.0
    stopping_since: float | None = None
    prune: bool = False
    verdict: Ended | None = None
    kept: list[EpochResult] = field(default_factory=list)
    ended: Ended | None = None
    late: bool = False

    def stop(self) -> None:
        """Tell it, once, to save its state and end."""
        if self.stopping_since is None and self.ended is None:
            self.stopping_since = time.monotonic()
            self.slot.send(Stop())


@dataclass
class Ending:
    """Why the worker ends; the first reason stays.

    Attributes:
        reason: None while it does not.
        message: The same for a reader.
        since: When that was decided.
        said: Whether it was said that running trials save their state.
        waits: Whether it was said that the worker waits for the database.
    """

    reason: Reason | None = None
    message: str = ""
    since: float = 0.0
    said: bool = False
    waits: bool = False

    def because(self, reason: Reason, message: str = "") -> None:
        """End for a reason, unless the worker ends already."""
        if self.reason is None:
            self.reason, self.message, self.since = reason, message, time.monotonic()
