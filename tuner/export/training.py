"""Training the production model: the built-in trainer, then the one look at the test split."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

from tuner.config.alive import SignOfLife, silent
from tuner.config.errors import DataError
from tuner.config.files import write_text
from tuner.config.study import DataSpec
from tuner.data.annotations import listed_files, read_content
from tuner.data.coco import load_split
from tuner.data.letterbox import canvas_for
from tuner.export.judging import Judged, check_classes, detect, evaluate_model
from tuner.export.model import LoadedModel, ModelConfig, ModelMetrics, load_model, save_metrics, save_model
from tuner.export.predicting import Told
from tuner.export.training_plan import Plan
from tuner.postprocess.swept import NOTHING
from tuner.studies.state.provenance import software_versions
from tuner.trainers.contract import CHECKPOINT, EpochResult, StopRequested, TrainingTask
from tuner.trainers.detection import checkpoint
from tuner.trainers.detection.precision import resolve_device
from tuner.trainers.detection.train import train


def train_production(
    plan: Plan,
    *,
    device: str,
    threads: int,
    stop_requested: StopRequested,
    on_epoch: Callable[[EpochResult], None],
    alive: SignOfLife = silent,
) -> Judged | None:
    """Train, save the model, and judge it on the test split, which is looked at here and nowhere before.

    Until `finish`, the same call goes on where this one was ended, if only to judge the model.

    Args:
        plan: What to train.
        device: auto, cpu, cuda or cuda:N.
        threads: CPU threads.
        stop_requested: Asked before each batch.
        on_epoch: Told of each finished epoch. Trained on train+val, its metrics are of images that were trained on.
        alive: Told how far an epoch is, and the last judgement.

    Returns:
        How good the model is; None where nothing is left to judge it by (no test split, and val was trained on).

    Raises:
        Interrupted: On request; the state is saved, and the same call goes on.
        TunerError: The data, the config or the device cannot be used.
    """
    where = resolve_device(device)
    data = plan.production.provenance.data
    own, _ = load_split(data, "train")
    # The trial's canvas, to which its anchors and operating point belong, whatever is trained on besides.
    canvas = canvas_for(own.sizes, plan.config.image_size)
    if plan.part == "train+val":
        data = merge_splits(data, plan.workdir / "train+val.json")
    task = TrainingTask(
        config=plan.config,
        seed=plan.seed,
        data=data,
        device=str(where),
        threads=threads,
        workdir=plan.workdir,
        cache_dir=plan.workdir / "cache",
        swept=NOTHING,
        canvas=canvas,
        alive=alive,
    )
    for result in train(task, stop_requested):
        on_epoch(result)
    state = checkpoint.load(plan.workdir / CHECKPOINT)
    assert state is not None  # the trainer saves after each epoch
    save_model(
        plan.folder,
        state["model"],
        ModelConfig(
            classes=own.classes,
            category_ids=own.category_ids,
            canvas=canvas,
            config=plan.config,
            operating_point=plan.operating_point,
            trained_on=plan.part,
            seed=plan.seed,
            software=software_versions(),
            production=plan.production,
        ),
    )
    judged = judge_model(load_model(plan.folder, where), plan, partial(alive, what="evaluating"))
    nothing = ModelMetrics(split=None, metrics=None, precision=None, recall=None, f1=None)
    save_metrics(plan.folder, judged.metrics if judged else nothing)
    return judged


def judge_model(model: LoadedModel, plan: Plan, told: Told) -> Judged | None:
    """Judge a model on the test split; without one, on val; None where that was trained on."""
    data = plan.production.provenance.data
    which: Literal["test", "val"] = "test" if data.test is not None else "val"
    if which == "val" and plan.part == "train+val":
        return None
    split, _ = load_split(data, which)
    check_classes(model.info, split, data.path(data.test or data.val))
    found = detect(model, split, told=told)
    return Judged(evaluate_model(model, split, which, found), split, found)


def merge_splits(data: DataSpec, path: Path) -> DataSpec:
    """Write train and val as one COCO file with ids of its own, and describe the data set that trains on it.

    Raises:
        DataError: The same image is in both.
    """
    load_split(data, "train"), load_split(data, "val")  # checked before they are read without checks
    paths = [data.path(part) for part in (data.train, data.val)]
    parts = [read_content(path) for path in paths]
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    train, val = (set(listed_files(*one)) for one in zip(parts, paths, strict=True))
    both = train & val
    if both:
        raise DataError(
            f"{len(both)} images are in both {data.train} and {data.val}, such as {min(both)}",
            hint="Remove them from one of the two, or train with --data train.",
        )
    for part in parts:
        ids = {image["id"]: len(images) + i for i, image in enumerate(part["images"], start=1)}
        images += [image | {"id": ids[image["id"]]} for image in part["images"]]
        start = len(annotations) + 1
        annotations += [
            annotation | {"id": start + i, "image_id": ids[annotation["image_id"]]}
            for i, annotation in enumerate(part["annotations"])
        ]
    merged = {"images": images, "annotations": annotations, "categories": parts[0]["categories"]}
    write_text(path, json.dumps(merged))
    return data.model_copy(update={"train": path.absolute()})
