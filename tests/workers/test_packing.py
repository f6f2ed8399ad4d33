"""How many trials share a GPU, by what is measured."""

from __future__ import annotations

import pytest

from tuner.studies.state.records import Assignment
from tuner.trainers.contract import EpochResult
from tuner.workers.devices import Gpu, SlotPlan, plan_slots
from tuner.workers.messages import Ended
from tuner.workers.packing import Packing, Step, fits, next_step, throughput

GB = 2**30


def test_memory_holds_peaks_contexts_and_a_reserve() -> None:
    assert fits(24 * GB, 6 * GB, 3)
    assert not fits(24 * GB, 6 * GB, 4)
    assert not fits(8 * GB, 7 * GB, 1)


def test_throughput_is_summed_over_slots_once_all_are_measured() -> None:
    assert throughput({}) is None
    assert throughput({0: [1.0, 1.0], 1: [1.0]}) is None
    assert throughput({0: [9.0, 1.0, 3.0], 1: [4.0, 4.0]}) == pytest.approx(1 / 2 + 1 / 4)


@pytest.mark.parametrize(
    ("slots", "rate", "before", "step"),
    [
        (1, None, None, "wait"),
        (1, 1.0, None, "add"),
        (2, None, 1.0, "wait"),
        (2, 1.09, 1.0, "remove"),
        (2, 1.1, 1.0, "add"),
        (3, 1.3, 1.1, "settle"),  # a fourth would not fit
        (3, 1.1, 1.1, "remove"),
    ],
)
def test_a_slot_comes_while_it_fits_and_stays_while_it_pays(
    slots: int, rate: float | None, before: float | None, step: Step
) -> None:
    assert next_step(24 * GB, 6 * GB, slots, rate, before) == step
    assert next_step(24 * GB, 0, slots, rate, before) == "wait"


class Gpus:
    """GPUs whose trials' epochs take a time that depends on how many share one."""

    def __init__(self, packing: Packing, plans: list[SlotPlan], seconds: dict[int, float], peak: int) -> None:
        self.plans = list(plans)
        self.packing, self.seconds, self.peak, self.number = packing, seconds, peak, 0

    def sharing(self, plan: SlotPlan) -> int:
        return sum(p.visible_gpu == plan.visible_gpu and p.index not in self.packing.too_many for p in self.plans)

    def train(self) -> None:
        """A trial of three epochs in each slot."""
        for plan in [plan for plan in self.plans if plan.index not in self.packing.too_many]:
            self.number += 1
            trial = Assignment(self.number, None, 0, {}, 1, 1, self.number, False, True, 0.0)  # type: ignore[arg-type]
            self.packing.trial_started(trial, plan)
            for epoch in (1, 2, 3):
                seconds = 100.0 if epoch == 1 else self.seconds[self.sharing(plan)]
                result = EpochResult(epoch, None, {}, 0.1, seconds, 0.0, 1.0, self.peak)  # type: ignore[arg-type]
                self.packing.epoch_reported(trial, result)
            self.packing.trial_ended(trial, Ended("complete"))
        if (plan := self.packing.another()) is not None:
            self.plans.append(plan)


@pytest.mark.parametrize(
    ("seconds", "kept"),
    [
        ({1: 10.0, 2: 10.0, 3: 10.0}, 3),  # for free, as far as memory goes
        ({1: 10.0, 2: 11.0, 3: 16.4}, 2),  # the third gains nothing
        ({1: 10.0, 2: 19.0}, 1),  # 5 % more are not worth it
    ],
)
def test_each_gpu_ends_with_the_slots_that_pay(
    monkeypatch: pytest.MonkeyPatch, seconds: dict[int, float], kept: int
) -> None:
    # The one thing that cannot be had on every machine that runs the tests.
    found = [Gpu(i, "Large", f"GPU-{i}", 24 * GB) for i in range(2)]
    monkeypatch.setattr("tuner.workers.devices.find_gpus", lambda: found)
    plans = plan_slots("cuda", per_gpu="auto")
    assert [plan.visible_gpu for plan in plans] == ["GPU-0", "GPU-1"]
    packing = Packing(plans)
    gpus = Gpus(packing, plans, seconds, 6 * GB)
    for _ in range(12):
        gpus.train()
    assert [gpus.sharing(plan) for plan in plans] == [kept, kept]
    assert [plan.index for plan in gpus.plans] == list(range(len(gpus.plans)))
    before = len(gpus.plans)
    gpus.train()
    assert len(gpus.plans) == before


def test_slots_that_are_fixed_are_not_packed() -> None:
    packing = Packing([SlotPlan(0, "cpu", 1)])
    gpus = Gpus(packing, [SlotPlan(0, "cpu", 1)], {1: 1.0}, 1)
    gpus.train()
    assert packing.another() is None
