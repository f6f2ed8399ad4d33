"""Planning slots: which device, how many trials at the same time, how many threads each.

Torch is not imported here: a worker must stay light, and a process that has touched CUDA holds GPU memory.
CUDA devices are asked for in a short-lived process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tuner.config.errors import ConfigError, DeviceError
from tuner.studies.state.machines import recorded_gpu

_GPU_FILES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
_PROBE = """
import json, torch
count = torch.cuda.device_count() if torch.cuda.is_available() else 0
found = [torch.cuda.get_device_properties(i) for i in range(count)]
print(json.dumps([[p.name, str(getattr(p, "uuid", "")), p.total_memory] for p in found]))
"""


@dataclass(frozen=True)
class Gpu:
    """A CUDA device of this machine.

    Attributes:
        index: N of "cuda:N".
        name: As the driver says.
        visible: Value of CUDA_VISIBLE_DEVICES that shows this device alone.
        memory: In bytes.
    """

    index: int
    name: str
    visible: str
    memory: int


@dataclass(frozen=True)
class SlotPlan:
    """One slot.

    Attributes:
        index: 0, 1, …, for names and logs.
        device: What the trainer is told: "cpu" or "cuda".
        threads: CPU threads of its process.
        visible_gpu: CUDA_VISIBLE_DEVICES of its process; None on the CPU. With it, a slot stays on its GPU
            whatever order the devices are counted in.
        label: The device for a reader.
        gpu: Name of the GPU's model; empty on the CPU.
        memory: Of the GPU in bytes, where slots may be added to it (`tuner.workers.packing`); 0 where not.
    """

    index: int
    device: str
    threads: int
    visible_gpu: str | None = None
    label: str = "cpu"
    gpu: str = ""
    memory: int = 0

    @property
    def recorded(self) -> str:
        """The device for the record of an attempt: "cpu", or the GPU's model and which one it is."""
        return recorded_gpu(self.gpu, self.visible_gpu or "") if self.gpu else self.device


def available_cores() -> int:
    """Cores that this process may use: its affinity, and the quota of its container."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))


def find_gpus() -> list[Gpu]:
    """The CUDA devices that torch can use here, in torch's order.

    Raises:
        DeviceError: Torch cannot be asked.
    """
    answer = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        last = answer.stderr.strip().splitlines()[-1:] or [f"exit code {answer.returncode}"]
        raise DeviceError(
            f"torch cannot be asked for CUDA devices: {last[0]}", hint="Reinstall torch, or use --device cpu."
        )
    asked = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    entries = [entry.strip() for entry in asked.split(",") if entry.strip()]
    gpus = []
    for index, (name, uuid, memory) in enumerate(json.loads(answer.stdout.splitlines()[-1])):
        gpus.append(Gpu(index, name, visible_as(index, name, uuid, entries), memory))
    return gpus


def visible_as(index: int, name: str, uuid: str, entries: Sequence[str]) -> str:
    """The value of CUDA_VISIBLE_DEVICES that shows one device alone, whatever order devices are counted in.

    Args:
        index: Torch's number of the device.
        name: As the driver says.
        uuid: As torch tells it; empty where it does not.
        entries: Of the user's own CUDA_VISIBLE_DEVICES.
    """
    entry = entries[index] if index < len(entries) else str(index)
    # A MIG slice ("… MIG 1g.10gb") is no GPU-…, and the user's own name of a device says what it is.
    return f"GPU-{uuid}" if uuid and " MIG " not in name and entry.isdecimal() else entry


def plan_slots(
    device: str, slots: int | None = None, *, per_gpu: int | Literal["auto"] | None = None
) -> list[SlotPlan]:
    """Lay out the slots of this machine.

    On the CPU there is a slot for each core: several trials of one thread each finish sooner than one trial
    with all threads. On GPUs there is one for each device.

    Args:
        device: "auto" (CUDA where there is one), "cpu", "cuda" (all devices), "cuda:N" or "cuda:N,M".
        slots: Trials at the same time; None: the default of the device.
        per_gpu: Trials at the same time on each GPU, instead of `slots`; "auto" begins with one and lets the worker
            add others as far as that pays (`tuner.workers.packing`).

    Raises:
        ConfigError: `device` has another form, or both `slots` and `per_gpu` are given, or `per_gpu` without a GPU.
        DeviceError: CUDA was asked for and this device is not there.
    """
    if slots is not None and per_gpu is not None:
        raise ConfigError(f"{slots} slots and {per_gpu} for each GPU were asked for", hint="Give one of them.")
    if device == "auto":
        gpus = find_gpus() if any(Path(file).exists() for file in _GPU_FILES) else []
        if gpus:
            return _gpu_slots(gpus, slots, per_gpu)
    if device in ("auto", "cpu"):
        if per_gpu is not None:
            why = "device is cpu" if device == "cpu" else "there is no GPU here"
            raise ConfigError(f"{per_gpu} trials for each GPU were asked for, but {why}", hint="Use --slots.")
        return _cpu_slots(slots)
    kind, _, listed = device.partition(":")
    numbers = listed.split(",") if ":" in device else []
    if kind != "cuda" or not all(number.isdecimal() for number in numbers):
        raise ConfigError(f"device is {device!r}, expected auto, cpu, cuda or cuda:N")
    gpus = find_gpus()
    if not gpus:
        raise DeviceError(
            f"device {device!r} was asked for, but torch finds no CUDA device here",
            hint="Use --device cpu, or check the driver with nvidia-smi and CUDA_VISIBLE_DEVICES.",
        )
    if numbers:
        if max(map(int, numbers)) >= len(gpus):
            raise DeviceError(
                f"device {device!r} was asked for, but this machine has {len(gpus)}: "
                + ", ".join(f"cuda:{gpu.index} ({gpu.name})" for gpu in gpus),
                hint=f"Use --device cuda:0 … cuda:{len(gpus) - 1}, or --device cuda for all of them.",
            )
        gpus = [gpus[number] for number in dict.fromkeys(map(int, numbers))]
    return _gpu_slots(gpus, slots, per_gpu)


def _cpu_slots(slots: int | None) -> list[SlotPlan]:
    cores = available_cores()
    count = slots or cores
    return [SlotPlan(index, "cpu", max(1, cores // count)) for index in range(count)]


def _gpu_slots(gpus: list[Gpu], slots: int | None, per_gpu: int | Literal["auto"] | None) -> list[SlotPlan]:
    packed = per_gpu == "auto"
    count = slots or len(gpus) * (per_gpu if isinstance(per_gpu, int) else 1)
    threads = max(1, available_cores() // count)
    plans = []
    for index in range(count):
        gpu = gpus[index % len(gpus)]
        label = f"cuda:{gpu.index} {gpu.name}"
        plans.append(SlotPlan(index, "cuda", threads, gpu.visible, label, gpu.name, gpu.memory if packed else 0))
    return plans
