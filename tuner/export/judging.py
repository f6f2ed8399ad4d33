"""Judging a trained model on annotated images, at every confidence and at its operating point."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tuner.config.errors import DataError
from tuner.config.trial import Tiles
from tuner.data.cache import open_cache
from tuner.data.fingerprint import split_fingerprint
from tuner.data.split import Split
from tuner.evaluation.coco import CocoEvaluator
from tuner.evaluation.cost import ImageCost
from tuner.evaluation.metrics import Metrics
from tuner.export.model import LoadedModel, ModelConfig, ModelMetrics
from tuner.export.predicting import Told, images_of, nobody, predict_raw
from tuner.models.predictions import Detections
from tuner.postprocess.apply import hits_of, point_of
from tuner.postprocess.nms import suppress
from tuner.trainers.detection.cost import measure_cost
from tuner.trainers.detection.fitting import as_many_as_fit
from tuner.trainers.detection.precision import inference_precision


@dataclass(frozen=True, eq=False)
class Judged:
    """A model's metrics and what they are made of.

    Attributes:
        metrics: At every confidence and at the operating point.
        split: The ground truth.
        found: Detections on it, after NMS, with no confidence threshold.
    """

    metrics: ModelMetrics
    split: Split
    found: Detections


def detect(model: LoadedModel, split: Split, *, tiles: Tiles | None = None, told: Told = nobody) -> Detections:
    """Detections after NMS, with no confidence threshold.

    Args:
        model: A trained model.
        split: Images with the model's classes.
        tiles: How images are cut; None: as the model's operating point says.
        told: Hears how far it is.
    """
    point = model.operating_point
    raw = predict_raw(model, split, tiles=tiles, told=told)
    return suppress(raw, point.nms_iou, kind=point.nms, max_detections=model.config.max_detections)


def cost_of(model: LoadedModel, split: Split, *, tiles: Tiles | None = None) -> ImageCost:
    """What an image costs the model on its device, measured on the first images of a split; arguments as of `detect`.

    Raises:
        DataError: An image cannot be read; named.
    """
    first = images_of(split, slice(model.config.batch_size))
    with tempfile.TemporaryDirectory(prefix="tuner-cost-") as folder:
        cached = open_cache(first, model.canvas, Path(folder))
        precision, point = inference_precision(model.config, model.device), model.operating_point
        merging = point.model_copy(update={"tiles": tiles or point.tiles})

        def measured(at_once: int) -> ImageCost:
            return measure_cost(model.detector, cached, first, model.config, precision, merging, at_once)

        return as_many_as_fit(model.config.batch_size, measured)[0]


def evaluate_model(
    model: LoadedModel,
    split: Split,
    name: Literal["train", "val", "test"] | None,
    found: Detections,
    *,
    evaluate: Callable[[Detections], Metrics] | None = None,
) -> ModelMetrics:
    """COCO metrics at every confidence, and precision, recall and F1 at the model's operating point.

    Args:
        model: A trained model.
        split: Annotated images with the model's classes.
        name: Of the split, for the record; None where it is of none.
        found: What the model `detect`s on it.
        evaluate: Computes the COCO metrics; None: the built-in evaluator.
    """
    evaluator = CocoEvaluator(split)
    here = point_of(hits_of(found, evaluator.truth), model.operating_point, model.classes)
    return ModelMetrics(
        split=name,
        metrics=(evaluate or evaluator.evaluate)(found),
        precision=here.precision if here else None,
        recall=here.recall if here else None,
        f1=here.f1 if here else None,
    )


def trained_on_note(info: ModelConfig, split: Split) -> str | None:
    """A sentence where a model was trained on the very split that is to judge it; None where that is not known.

    Splits are told by their fingerprints, whatever they are called and wherever they lie: files, sizes in bytes and
    all annotations must be those of the study's data set. So a part of the training images, or the same images with
    other boxes, goes unnoticed, but nothing is said of images that only look alike by name.
    """
    known = info.production.provenance.fingerprint
    if known is None:
        return None
    trained = {"train": (known.train,), "train+val": (known.train, known.val)}[info.trained_on]
    here = split_fingerprint(split)
    same = {"annotations", "file_names", "file_sizes"}
    if here.model_dump(include=same) not in [one.model_dump(include=same) for one in trained]:
        return None
    left = "the test split alone" if known.test is not None else "only other images"
    if info.trained_on == "train":
        left = "only images that were not"
    return f"these images were trained on ({info.trained_on}): the figures flatter; {left} can judge this model"


def check_classes(info: ModelConfig, split: Split, file: Path) -> None:
    """Make sure that annotations have the model's classes.

    Raises:
        DataError: They do not; says which are missing and which are unknown.
    """
    if split.classes == info.classes:
        return
    missing = [name for name in info.classes if name not in split.classes]
    unknown = [name for name in split.classes if name not in info.classes]
    found = []
    if missing:
        found.append(f"lacks {', '.join(missing)}")
    if unknown:
        found.append(f"has {', '.join(unknown)}, which the model does not know")
    if not found:
        found.append(f"orders them {', '.join(split.classes)} by id, the model {', '.join(info.classes)}")
    raise DataError(
        f"{file}: the categories are not the model's: {'; '.join(found)}",
        hint="Give the file the categories of the training annotations, with ids in the same order.",
    )
