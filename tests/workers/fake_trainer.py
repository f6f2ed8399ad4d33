"""A trainer that follows the contract and trains nothing: curves by formula, misbehaviour on request.

What it does is written into ``plan.json`` beside the cache: by number of the trial, or for any ("*"),
{"action": ..., "epoch": n, "times": k, "only": trial, "seconds": per epoch}; `times` bounds how often, over
all processes (default: always). "work" gives signs of life for `long` seconds, with the `counts` [done,
total] or without, and then none for `quiet` seconds.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tuner.evaluation.metrics import Metrics
from tuner.postprocess.operating_point import OperatingPoint
from tuner.trainers import contract
from tuner.trainers.contract import EpochResult, Interrupted, StopRequested, TrainingTask

LEAK: list[bytes] = []
CUDA = {"cuda": "an illegal memory access was encountered", "assert": "device-side assert triggered"}


def train(task: TrainingTask, stop_requested: StopRequested) -> Iterator[EpochResult]:
    state_file = task.workdir / contract.CHECKPOINT
    history: list[float] = json.loads(state_file.read_text()) if state_file.exists() else []
    with (task.workdir / "starts.txt").open("a") as starts:
        starts.write(f"{os.getpid()} {len(history)}\n")
    run = uuid.uuid4().hex
    if history:  # a report that was lost with its process is made again; the study takes it by its number
        yield result(task, len(history), history[-1])
    for epoch in range(len(history) + 1, task.config.epochs + 1):
        plan = planned(task)
        misbehave(task, plan, epoch)
        if stop_requested():
            raise Interrupted
        with (task.workdir / "worked.txt").open("a") as worked:
            worked.write(f"{run} {epoch}\n")
        batches = 5
        for _ in range(batches):
            if stop_requested():
                raise Interrupted
            time.sleep(float(plan.get("seconds", 0.05)) / batches)
        history.append(score(task, epoch))
        temporary = state_file.with_suffix(".tmp")
        temporary.write_text(json.dumps(history))
        temporary.rename(state_file)
        yield result(task, epoch, history[-1])


def score(task: TrainingTask, epoch: int) -> float:
    """Deterministic in config, seed and epoch; best near learning rate 2e-3."""
    import math

    height = math.exp(-(math.log10(task.config.learning_rate / 2e-3) ** 2))
    return height * (1 - 0.9 ** (epoch + task.seed % 3))


def result(task: TrainingTask, epoch: int, value: float) -> EpochResult:
    last = epoch == task.config.epochs
    point = OperatingPoint(nms_iou=0.6, confidence=0.3, precision=value, recall=value, f1=value) if last else None
    metrics = Metrics(
        map=value, map50=value, map75=value, map_small=None, map_medium=value, map_large=value,
        ar1=value, ar10=value, ar100=value, ar_small=None, ar_medium=value, ar_large=value,
        class_map={"disc": value}, operating_point=point,
    )  # fmt: skip
    return EpochResult(
        epoch=epoch, metrics=metrics, losses={"box": 1.0 / epoch}, learning_rate=task.config.learning_rate,
        train_seconds=0.04, eval_seconds=0.01, cpu_seconds=0.01, peak_memory=1000 * os.getpid(),
    )  # fmt: skip


def planned(task: TrainingTask) -> dict[str, Any]:
    file = task.cache_dir.parent / "plan.json"
    plans = json.loads(file.read_text()) if file.exists() else {}
    plan: dict[str, Any] = plans.get(task.workdir.name) or plans.get("*", {})
    return plan


def misbehave(task: TrainingTask, plan: dict[str, Any], epoch: int) -> None:
    action = plan.get("action")
    if str(plan.get("only", task.workdir.name)) != task.workdir.name:
        return
    if action is None or epoch != plan.get("epoch", 1):
        return
    done = task.workdir / "misbehaved.txt"
    times = int(done.read_text()) if done.exists() else 0
    if times >= plan.get("times", 1_000_000):
        return
    done.write_text(str(times + 1))
    if action == "exit":
        os._exit(7)
    if action == "sigkill":
        os.kill(os.getpid(), signal.SIGKILL)
    if action == "hang":
        time.sleep(1000)
    if action == "work":
        until = time.monotonic() + plan["long"]
        while time.monotonic() < until:
            task.alive(*map(np.int64, plan.get("counts", ())))
            time.sleep(0.1)
        (task.workdir / "worked long.txt").touch()
        time.sleep(plan.get("quiet", 0))
        return
    if action == "full disk":
        raise OSError(errno.ENOSPC, "No space left on device")
    if action == "leak":
        from tuner.workers import wear

        wear.FACTOR, wear.SLACK = 1.5, 2**20
        LEAK.append(os.urandom(2**28))
        return
    if action in CUDA:
        raise RuntimeError(f"CUDA error: {CUDA[action]}")
    if action == "bug":
        raise ZeroDivisionError("nobody foresaw this")
    raise getattr(contract, action)(f"{action} of trial {Path(task.workdir).name}" if plan.get("named") else action)
