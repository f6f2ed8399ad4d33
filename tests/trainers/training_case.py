"""Variants of a small task, and what must be equal between two trainings of it."""

from __future__ import annotations

import dataclasses

import torch

from tuner.trainers.contract import (
    CHECKPOINT,
    EpochResult,
    TrainingTask,
)
from tuner.trainers.detection import checkpoint


def never() -> bool:
    return False


def variant(task: TrainingTask, name: str, **changes: object) -> TrainingTask:
    """The task in a folder of its own, with another config."""
    config = task.config.model_copy(update=changes)
    return dataclasses.replace(task, workdir=task.workdir.with_name(name), config=config)


def comparable(results: list[EpochResult]) -> list[tuple[object, ...]]:
    """What must be equal between an interrupted and an undisturbed run: everything but time and memory.

    The epoch that ends with a checkpoint comes again when training goes on: it must be the same.
    """
    seen: dict[int, tuple[object, ...]] = {}
    for r in results:
        row = (r.epoch, r.metrics, r.losses, r.learning_rate, r.executed)
        assert seen.setdefault(r.epoch, row) == row
    return list(seen.values())


def weights(task: TrainingTask) -> dict[str, torch.Tensor]:
    state = checkpoint.load(task.workdir / CHECKPOINT)
    assert state is not None
    model: dict[str, torch.Tensor] = state["model"]
    return model


def assert_same_weights(a: TrainingTask, b: TrainingTask) -> None:
    first, second = weights(a), weights(b)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
