"""A study with two finished trials whose training is made up, and everything that a report is drawn from."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tuner.config.study import BudgetSpec, StudySpec
from tuner.data.scenes import generate
from tuner.data.split import Split
from tuner.evaluation.coco import CocoEvaluator
from tuner.models.predictions import Detections
from tuner.postprocess.operating_point import OperatingPoint
from tuner.report.dashboard import DashboardObserver
from tuner.studies.opening import create_or_open
from tuner.studies.state.provenance import WorkerInfo
from tuner.studies.state.records import Assignment
from tuner.studies.study import Study
from tuner.trainers.contract import DETECTIONS, EpochResult
from tuner.workers.messages import Ended
from tuner.workers.observer import Observer

EPOCHS = 3


def make_study(folder: Path, name: str = "scenes") -> Study:
    """A study of generated scenes without trials, its database in `folder`."""
    data = generate(folder / "data", train=6, val=4, test=3, size=(96, 72), seed=1)
    return create_or_open(
        StudySpec(
            name=name,
            data=data,
            defaults={"epochs": EPOCHS, "image_size": 96},
            budget=BudgetSpec(trials=10),
            storage=f"sqlite:///{folder}/tuner.db",
        )
    )


def fake_detections(split: Split, quality: float, seed: int = 0) -> Detections:
    """Detections near the ground truth, as far off as `quality` is below 1, and one false one on each image."""
    rng = np.random.default_rng(seed)
    boxes, scores, labels, offsets = [], [], [], [0]
    for i, (width, height) in enumerate(split.sizes):
        mine = slice(split.offsets[i], split.offsets[i + 1])
        xyxy = split.boxes[mine].copy()
        xyxy[:, 2:] += xyxy[:, :2]
        xyxy += rng.normal(0, 6 * (1 - quality), xyxy.shape)
        xyxy = np.vstack([np.sort(xyxy.reshape(-1, 2, 2), axis=1).reshape(-1, 4), [[1, 1, width / 3, height / 3]]])
        own = np.append(rng.uniform(quality / 2, 1, len(xyxy) - 1), 0.2)
        order = np.argsort(-own)
        boxes.append(xyxy[order])
        scores.append(own[order])
        labels.append(np.append(split.labels[mine], 0)[order])
        offsets.append(offsets[-1] + len(order))
    return Detections(
        np.concatenate(boxes).astype(np.float32),
        np.concatenate(scores).astype(np.float32),
        np.concatenate(labels),
        np.array(offsets, np.int64),
    )


def run_trial(study: Study, observer: Observer, quality: float, *, detections: bool = True) -> Assignment:
    """Hand out the next trial, report all its epochs, leave its detections and end it as a worker would."""
    assignment = study.next_trial(WorkerInfo())
    assert assignment is not None
    val = study.dataset.val
    evaluator = CocoEvaluator(val)
    for epoch in range(1, EPOCHS + 1):
        found = fake_detections(val, quality * epoch / EPOCHS)
        point = OperatingPoint(nms_iou=0.6, confidence=0.3, precision=0.8, recall=0.7, f1=0.75)
        metrics = evaluator.evaluate(found).model_copy(update={"operating_point": point})
        study.report(
            assignment,
            EpochResult(
                epoch=epoch,
                metrics=metrics,
                losses={"box": 2.0 / epoch, "class": 1.0 / epoch},
                learning_rate=0.001,
                train_seconds=1.0,
                eval_seconds=0.1,
                cpu_seconds=1.1,
                peak_memory=2**28,
            ),
        )
    workdir = study.folder / "trials" / str(assignment.number)
    workdir.mkdir(parents=True)
    if detections:
        found.save(workdir / DETECTIONS)
    study.complete(assignment)
    observer.trial_ended(assignment, Ended("complete"))
    return assignment


def finished_study(folder: Path) -> Study:
    """A study with two complete trials, drawn for the dashboard."""
    study = make_study(folder)
    observer = DashboardObserver(study)
    run_trial(study, observer, 0.6)
    run_trial(study, observer, 0.95)
    return study
