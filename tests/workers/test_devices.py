"""Planning slots."""

import pytest

from tuner.cli.options import device_of
from tuner.config.errors import ConfigError, DeviceError
from tuner.config.trial import TrialConfig
from tuner.space.load import load_space
from tuner.workers import devices
from tuner.workers.devices import Gpu, available_cores, plan_slots, visible_as
from tuner.workers.trainer_choice import check_built_in


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


@pytest.mark.parametrize(
    ("entries", "shown"),
    [([], "GPU-b"), (["1", "0"], "GPU-b"), (["GPU-x", "GPU-b"], "GPU-b"), (["MIG-x", "MIG-y"], "MIG-y")],
)
def test_a_gpu_is_shown_by_its_uuid(entries: list[str], shown: str) -> None:
    assert visible_as(1, "Large", "b", entries) == shown


def test_a_gpu_whose_uuid_torch_does_not_tell_keeps_the_users_number() -> None:
    assert visible_as(0, "Large", "", ["3", "5"]) == "3"
    assert visible_as(1, "Large", "", []) == "1"


def test_a_slice_of_a_gpu_keeps_the_users_number_too() -> None:
    """Its UUID is its own, or the whole GPU's: with "GPU-" before it, it would show nothing or another slice."""
    assert visible_as(0, "NVIDIA A100-SXM4-40GB MIG 1g.5gb", "b", ["2"]) == "2"


@pytest.mark.usefixtures("two_gpus")
def test_some_gpus_with_several_trials_each() -> None:
    assert [plan.visible_gpu for plan in plan_slots("cuda:1,0")] == ["GPU-b", "GPU-a"]
    assert [plan.visible_gpu for plan in plan_slots("cuda:1,1")] == ["GPU-b"]
    plans = plan_slots("cuda", per_gpu=2)
    assert [plan.visible_gpu for plan in plans] == ["GPU-a", "GPU-b", "GPU-a", "GPU-b"]
    assert {plan.threads for plan in plans} == {max(1, available_cores() // 4)}
    with pytest.raises(DeviceError, match="cuda:0,2"):
        plan_slots("cuda:0,2")
    with pytest.raises(ConfigError, match="4 slots and 2 for each GPU"):
        plan_slots("cuda", 4, per_gpu=2)
    with pytest.raises(ConfigError, match="device is cpu"):
        plan_slots("cpu", per_gpu=2)


def test_the_command_line_names_gpus_by_number() -> None:
    assert device_of(None, "0,1,3") == "cuda:0,1,3"
    assert device_of("cpu", None) == "cpu"
    with pytest.raises(ConfigError, match="give one of them"):
        device_of("cpu", "0")


@pytest.mark.usefixtures("two_gpus")
def test_a_gpu_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(DeviceError, match=r"cuda:0 \(Large\), cuda:1 \(Small\)"):
        plan_slots("cuda:2")


def test_trials_for_each_gpu_need_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "find_gpus", list)
    with pytest.raises(ConfigError, match="auto trials for each GPU were asked for, but there is no GPU here"):
        plan_slots("auto", per_gpu="auto")


def test_cuda_on_a_machine_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "find_gpus", list)
    with pytest.raises(DeviceError, match="finds no CUDA device"):
        plan_slots("cuda")


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "cuda:0,", ""])
def test_other_names_are_refused(device: str) -> None:
    with pytest.raises(ConfigError, match="expected auto, cpu, cuda or cuda:N"):
        plan_slots(device)


@pytest.mark.usefixtures("two_gpus")
def test_slots_on_a_cpu_compute_no_fp16() -> None:
    other = load_space({"momentum": {"type": "float", "low": 0.8, "high": 0.95}})
    sampled = load_space({"precision": {"type": "categorical", "choices": ["bf16", "fp16"]}})
    for space, precision in ((other, "fp16"), (sampled, "bf16")):
        base = TrialConfig.model_validate({"precision": precision})
        check_built_in(plan_slots("cuda"), space, base)
        with pytest.raises(DeviceError, match="fp16, which needs a GPU, but there are slots on the CPU"):
            check_built_in(plan_slots("cpu", 1), space, base)
    check_built_in(plan_slots("cpu", 1), other, TrialConfig(precision="bf16"))
