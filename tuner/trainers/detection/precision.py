"""The device of a training run, and in what it computes."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager

import torch

from tuner.config.errors import ConfigError, DeviceError
from tuner.config.trial import TrialConfig


def resolve_device(name: str) -> torch.device:
    """The device of "auto", "cpu", "cuda" or "cuda:N".

    Raises:
        ConfigError: `name` has another form.
        DeviceError: There is no such device.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise ConfigError(f"device is {name!r}, expected auto, cpu, cuda or cuda:N")
    if name == "auto":
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    if name == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    index = int(name.partition(":")[2] or 0)
    if index >= count:
        found = f"there are {count} CUDA devices" if count else "torch sees no CUDA device here"
        raise DeviceError(f"device {name!r}: {found}", hint="Use --device cpu, or check the driver.")
    return torch.device("cuda", index)


class Precision:
    """Mixed precision: the autocast type and, for fp16, the gradient scaler.

    Attributes:
        name: "fp32", "bf16" or "fp16": what is really used.
        scaler: Scales fp16 gradients; does nothing otherwise.

    Raises:
        DeviceError: fp16 is asked for on a CPU, where torch computes it a hundred times slower than bf16 or fp32.
    """

    def __init__(self, config: TrialConfig, device: torch.device) -> None:
        self.device = device
        self.name = config.precision if config.precision != "auto" else _native(device)
        if self.name == "fp16" and device.type == "cpu":
            raise DeviceError("precision fp16 needs a GPU, the device is the CPU", hint="Use precision: auto.")
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.name == "fp16")

    def autocast(self) -> AbstractContextManager[object]:
        """The context of forward passes."""
        dtype = torch.float16 if self.name == "fp16" else torch.bfloat16
        return torch.autocast(self.device.type, dtype, enabled=self.name != "fp32")


def inference_precision(config: TrialConfig, device: torch.device) -> Precision:
    """In what a trained model computes: as it was trained, but as `auto` where that was fp16 and there is only a CPU.

    Its weights are float32 whatever it was trained in.
    """
    if config.precision == "fp16" and device.type == "cpu":
        config = config.model_copy(update={"precision": "auto"})
    return Precision(config, device)


def _native(device: torch.device) -> str:
    """bf16 where the device has instructions for it, else fp32: emulated bf16 is slower than fp32."""
    if device.type == "cuda":
        with torch.cuda.device(device):  # torch answers for the current device
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() else "fp32"
