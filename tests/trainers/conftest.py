"""A small task on generated scenes, and what an undisturbed training of it gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trainers.training_case import never, variant
from tuner.config.trial import TrialConfig
from tuner.data import scenes
from tuner.data.coco import load_dataset
from tuner.models.anchors import resolve_anchors
from tuner.trainers.contract import (
    EpochResult,
    TrainingTask,
)
from tuner.trainers.detection.train import train


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scenes")


@pytest.fixture(scope="module")
def task(folder: Path) -> TrainingTask:
    data = scenes.generate(folder, train=48, val=16, test=4, size=(160, 120), seed=1)
    config = TrialConfig(image_size=160, epochs=3, anchors="kmeans-iou-balanced-1", warmup_epochs=0.5, ema_decay=0.9)
    config = resolve_anchors(config, load_dataset(data).train)
    return TrainingTask(
        config=config,
        seed=3,
        data=data,
        device="cpu",
        threads=1,
        workdir=folder / "trial",
        cache_dir=folder / "cache",
    )


@pytest.fixture(scope="module")
def undisturbed(task: TrainingTask) -> tuple[TrainingTask, list[EpochResult]]:
    whole = variant(task, "whole")
    return whole, list(train(whole, never))
