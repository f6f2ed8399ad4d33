"""What a worker tells the process of a trial, in which order."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from tuner.workers.limits import DEFAULT_TIMING
from tuner.workers.messages import Alive, Stop
from tuner.workers.running import Running
from tuner.workers.watching import watch


@pytest.mark.parametrize(("cut", "told"), [(False, [Stop, Alive]), (True, [Alive])])
def test_a_process_hears_of_a_stalled_worker_after_its_lease_was_looked_at(cut: bool, told: list[type]) -> None:
    """The trial of a worker that stalled is another one's by now; where the database is away, nobody can take it."""
    sent: list[object] = []
    slot: Any = SimpleNamespace(send=sent.append)
    ledger: Any = SimpleNamespace(renew=Running.stop, holds=lambda running: True, longest_epoch=0.0)
    assignment: Any = None
    stalled = Running(assignment, slot, renewed=-math.inf, spoken=-math.inf)
    watch(stalled, ledger, DEFAULT_TIMING, cut=cut, at_once=False)
    assert [type(message) for message in sent] == told
