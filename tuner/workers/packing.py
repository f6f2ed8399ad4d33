"""How many trials share a GPU where the user leaves that to the worker (`--per-gpu auto`).

The rule: each GPU starts with one slot. Once every slot of the GPU has reported `EPOCHS` epochs since the last change
(the first of a trial aside), a slot is added where the GPU's memory holds another peak like the largest that was
measured, with a reserve. It stays when the slots' epochs per second, summed, have risen by `GAIN`; otherwise it gets
no further trial, and the GPU stays as it is from then on.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from tuner.studies.state.records import Assignment
from tuner.trainers.contract import EpochResult
from tuner.workers.devices import SlotPlan, available_cores
from tuner.workers.messages import Ended
from tuner.workers.observer import Observer

EPOCHS = 2
"""Epochs of each slot that are measured before a decision."""
GAIN = 1.1
"""Summed throughput with a further slot over that without it, from which on the slot stays."""
CONTEXT = 2**30
"""Bytes of a GPU that a process takes beside what it allocates: CUDA's context, kernels, fragments."""
RESERVE = 0.1
"""Part of a GPU's memory that is left free."""

Step = Literal["wait", "add", "remove", "settle"]


def fits(memory: int, peak: int, slots: int) -> bool:
    """Whether so many trials of the largest measured peak fit a GPU; sizes in bytes."""
    return slots * (peak + CONTEXT) <= (1 - RESERVE) * memory


def throughput(seconds: Mapping[int, Sequence[float]]) -> float | None:
    """Epochs per second of all slots together, from each slot's latest; None while one has too few."""
    if not seconds or any(len(own) < EPOCHS for own in seconds.values()):
        return None
    return sum(1 / statistics.fmean(own[-EPOCHS:]) for own in seconds.values())


def next_step(memory: int, peak: int, slots: int, rate: float | None, before: float | None) -> Step:
    """What to do with a GPU.

    Args:
        memory: Of the GPU, in bytes.
        peak: The largest that a trial was measured at, in bytes; 0 before there is any.
        slots: That share the GPU now.
        rate: Their `throughput`.
        before: That of one slot less, where the last slot is on trial; None where all are to stay.
    """
    if rate is None or not peak:
        return "wait"
    if before is not None and rate < GAIN * before:
        return "remove"
    return "add" if fits(memory, peak, slots + 1) else "settle"


@dataclass
class _Packed:
    """A GPU and its slots, the latest last."""

    plan: SlotPlan
    slots: list[int]
    seconds: dict[int, list[float]] = field(default_factory=dict)
    peak: int = 0
    before: float | None = None
    settled: bool = False


class Packing(Observer):
    """Watches the epochs of slots and says where slots should come and go.

    Args:
        plans: The first slots; those with `SlotPlan.memory` may be joined by others.

    Attributes:
        too_many: Indices of slots that should get no further trial.
    """

    def __init__(self, plans: Sequence[SlotPlan]) -> None:
        self.too_many: set[int] = set()
        self._count = len(plans)
        self._gpus = [_Packed(plan, [plan.index], {plan.index: []}) for plan in plans if plan.memory]
        self._places: dict[int, int] = {}
        self._warm: set[int] = set()

    def trial_started(self, assignment: Assignment, slot: SlotPlan) -> None:
        """Remember where it runs."""
        self._places[assignment.number] = slot.index
        self._warm.discard(assignment.number)

    def epoch_reported(self, assignment: Assignment, result: EpochResult) -> None:
        """Measure; the first epoch of a trial holds its start."""
        place = self._places.get(assignment.number)
        gpu = next((gpu for gpu in self._gpus if place in gpu.slots), None)
        if gpu is None or place is None:
            return
        gpu.peak = max(gpu.peak, result.peak_memory)
        if assignment.number in self._warm:
            gpu.seconds[place].append(result.train_seconds + result.eval_seconds)
        self._warm.add(assignment.number)

    def trial_ended(self, assignment: Assignment, ended: Ended) -> None:
        """Forget where it ran."""
        self._places.pop(assignment.number, None)

    def another(self) -> SlotPlan | None:
        """The plan of a slot that should be added now; None where there is none."""
        for gpu in self._gpus:
            rate = throughput(gpu.seconds)
            step: Step = "wait"
            if not gpu.settled:
                step = next_step(gpu.plan.memory, gpu.peak, len(gpu.slots), rate, gpu.before)
            if step == "add":
                threads = max(1, available_cores() // (self._count + 1))
                plan = replace(gpu.plan, index=self._count, threads=threads)
                self._count += 1
                gpu.before = rate
                gpu.slots.append(plan.index)
                gpu.seconds = {index: [] for index in gpu.slots}
                return plan
            if step == "remove":
                self.too_many.add(gpu.slots.pop())
            gpu.settled = gpu.settled or step in ("remove", "settle")
        return None
