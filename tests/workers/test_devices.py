"""Planning slots."""

import pytest

from tuner.config.errors import ConfigError, DeviceError
from tuner.workers import devices
from tuner.workers.devices import Gpu, available_cores, plan_slots


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    # The one thing that cannot be had on every machine that runs the tests.
    gpus = [Gpu(0, "Large", "GPU-a", 80 << 30), Gpu(1, "Small", "GPU-b", 8 << 30)]
    monkeypatch.setattr(devices, "find_gpus", lambda: gpus)


def test_the_cpu_gives_a_slot_to_each_core() -> None:
    plans = plan_slots("cpu")
    assert [plan.threads for plan in plans] == [1] * available_cores()
    assert {plan.device for plan in plans} == {"cpu"}


def test_slots_share_the_cores_and_have_one_thread_at_least() -> None:
    assert [plan.threads for plan in plan_slots("cpu", 1)] == [available_cores()]
    crowded = plan_slots("cpu", 3 * available_cores())
    assert {plan.threads for plan in crowded} == {1}
    assert [plan.index for plan in crowded] == list(range(3 * available_cores()))


@pytest.mark.usefixtures("two_gpus")
def test_each_gpu_gets_a_slot_that_sees_no_other() -> None:
    assert [(plan.device, plan.visible_gpu) for plan in plan_slots("cuda")] == [("cuda", "GPU-a"), ("cuda", "GPU-b")]
    assert [plan.visible_gpu for plan in plan_slots("cuda:1", 2)] == ["GPU-b", "GPU-b"]
    assert plan_slots("cuda:1")[0].label == "cuda:1 Small"
    assert [plan.visible_gpu for plan in plan_slots("cuda", 3)] == ["GPU-a", "GPU-b", "GPU-a"]


@pytest.mark.usefixtures("two_gpus")
def test_a_gpu_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(DeviceError, match=r"cuda:0 \(Large\), cuda:1 \(Small\)"):
        plan_slots("cuda:2")


def test_cuda_on_a_machine_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "find_gpus", list)
    with pytest.raises(DeviceError, match="finds no CUDA device"):
        plan_slots("cuda")


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0", ""])
def test_other_names_are_refused(device: str) -> None:
    with pytest.raises(ConfigError, match="expected auto, cpu, cuda or cuda:N"):
        plan_slots(device)
