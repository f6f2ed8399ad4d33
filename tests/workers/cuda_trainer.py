"""The built-in trainer with faults of a real GPU, by ``plan.json`` beside the cache: {"trial": {"action", "epoch"}}.

"assert" lets a kernel fail an assertion, which leaves the CUDA context unusable; "memory" takes all but some memory of
the GPU away from this process.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import torch

from tuner.trainers.contract import EpochResult, StopRequested, TrainingTask
from tuner.trainers.detection.train import train as real

LEFT = 400 * 2**20
"""Bytes of the GPU that "memory" leaves to the process."""


def train(task: TrainingTask, stop_requested: StopRequested) -> Iterator[EpochResult]:
    file = task.cache_dir.parent / "plan.json"
    plan = json.loads(file.read_text()).get(task.workdir.name, {}) if file.exists() else {}
    if plan.get("action") == "memory":
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(LEFT / torch.cuda.get_device_properties(0).total_memory)
    for result in real(task, stop_requested):
        yield result
        if plan.get("action") == "assert" and result.epoch == plan["epoch"]:
            torch.zeros(1, device="cuda")[torch.tensor([5], device="cuda")].sum()
