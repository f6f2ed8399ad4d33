"""The folder of a trained model: `weights.pt`, `config.yaml`, `metrics.json` and `pictures/`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor

from tuner.config.base import Frozen
from tuner.config.errors import ConfigError, WeightsError, nearest
from tuner.config.files import write_text
from tuner.config.trial import TrialConfig
from tuner.config.weights import CONFIG, TRAINED
from tuner.data.letterbox import Canvas
from tuner.evaluation.metrics import Metrics
from tuner.export.production import ProductionConfig
from tuner.export.yaml_files import read_yaml_model, write_yaml
from tuner.models.build import build_detector
from tuner.models.detector import Detector
from tuner.models.weights import read_state
from tuner.postprocess.operating_point import OperatingPoint
from tuner.trainers.detection import checkpoint

WEIGHTS, METRICS, PICTURES = TRAINED, "metrics.json", "pictures"


class ModelConfig(Frozen):
    """What the weights are of, and everything that prediction needs beside them."""

    classes: tuple[str, ...] = Field(description="class names, in the order of the network's labels")
    category_ids: tuple[int, ...] = Field(description="ids of the classes in the training annotations")
    canvas: tuple[PositiveInt, PositiveInt] = Field(description="width and height of the network's input, in pixels")
    config: TrialConfig = Field(description="what was trained; epochs may differ from the production config's")
    operating_point: OperatingPoint
    trained_on: Literal["train", "train+val"]
    seed: int = Field(ge=0)
    software: dict[str, str]
    production: ProductionConfig = Field(description="the config that this model was trained from")

    @model_validator(mode="after")
    def _each_class_has_an_id(self) -> Self:
        if not len(self.classes) == len(self.category_ids) == len(set(self.category_ids)):
            raise ValueError(f"category_ids: {len(self.classes)} classes need as many ids, each another")
        return self


class ModelMetrics(Frozen):
    """How good the model is, and on what; figures are None where there is no split that may judge it."""

    split: Literal["train", "val", "test"] | None = Field(description="None of a single annotation file")
    metrics: Metrics | None
    precision: float | None = Field(description="at the exported operating point, all classes together, IoU 0.5")
    recall: float | None
    f1: float | None


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A trained model, ready to predict.

    Attributes:
        detector: On the device that was asked for, in eval mode.
        info: Config, classes, canvas and operating point.
    """

    detector: Detector
    info: ModelConfig

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.detector.parameters()).device

    @property
    def config(self) -> TrialConfig:
        """What was trained."""
        return self.info.config

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the labels."""
        return self.info.classes

    @property
    def operating_point(self) -> OperatingPoint:
        """The post-processing of production."""
        return self.info.operating_point

    @property
    def canvas(self) -> Canvas:
        """Size of the network's input."""
        return Canvas(*self.info.canvas)


def save_model(folder: Path, weights: dict[str, Tensor], info: ModelConfig) -> None:
    """Write weights and config; the weights last, so that a folder with weights is complete, and can be loaded.

    Raises:
        WeightsError: The weights do not fit the config; they have no final name then.
        DiskFull: They cannot be written; nothing of them is left.
    """
    folder.mkdir(parents=True, exist_ok=True)
    source = info.production.provenance
    header = [
        f"A trained {info.config.model}, from trial {source.trial} of study {source.study}.",
        f"Classes: {', '.join(info.classes)}. Trained on: {info.trained_on}.",
        "Predict with: tuner predict FOLDER IMAGE…",
    ]
    write_yaml(info, folder / CONFIG, header, force=True)
    partial = folder / f"{WEIGHTS}.partial"
    checkpoint.remove_unfinished(partial)
    checkpoint.save(partial, weights)
    _detector(partial, info)
    partial.replace(folder / WEIGHTS)


def save_metrics(folder: Path, metrics: ModelMetrics) -> None:
    """Write `metrics.json`."""
    write_text(folder / METRICS, json.dumps(metrics.model_dump(mode="json"), indent=2) + "\n")


def load_model(
    folder: Path | str, device: torch.device | str = "cpu", *, point: Path | str | None = None
) -> LoadedModel:
    """Load a trained model.

    Args:
        folder: What `tuner train` wrote.
        device: Where to put the network.
        point: File of an operating point, as `tuner calibrate` writes it; None: the model's own.

    Raises:
        ConfigError: The folder is missing or is no trained model; names the part that is missing. Or the file holds no
            operating point of this model.
        WeightsError: The weights are unreadable or do not fit the config.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder", hint="Train a model with `tuner train CONFIG -o FOLDER`.")
    for part in (WEIGHTS, CONFIG):
        if not (folder / part).is_file():
            raise ConfigError(
                f"{folder} is not a trained model: {part} is missing",
                hint="A training that was interrupted goes on when `tuner train` is called again with the same folder.",
            )
    info = read_yaml_model(folder / CONFIG, ModelConfig)
    if point is not None:
        info = info.model_copy(update={"operating_point": _read_point(Path(point), info)})
    return LoadedModel(_detector(folder / WEIGHTS, info).to(device).eval(), info)


def _read_point(path: Path, info: ModelConfig) -> OperatingPoint:
    """An operating point for a model, whose tiles stay where the file says nothing of them."""
    point = read_yaml_model(path, OperatingPoint)
    unknown = [name for name in point.class_confidence if name not in info.classes]
    if unknown:
        raise ConfigError(
            f"{path}: class_confidence: the model has no class {', '.join(map(repr, unknown))}",
            hint=nearest(unknown[0], info.classes),
        )
    if "tiles" in point.model_fields_set:
        return point
    return point.model_copy(update={"tiles": info.operating_point.tiles})


def _detector(weights: Path, info: ModelConfig) -> Detector:
    state = read_state(weights)
    try:
        return build_detector(info.config, len(info.classes), state)
    except RuntimeError as error:
        raise WeightsError(
            f"{weights} does not fit {weights.with_name(CONFIG)}: {str(error).splitlines()[-1].strip()}",
            hint="The two files must come from one training, with this version of the detector; train again.",
        ) from None
