"""Each of torchvision's families trains and learns on real photographs."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.models.torchvision_scenes import NAMES, build
from tuner.config.trial import Augment, TrialConfig
from tuner.data.annotations import read_annotations
from tuner.data.batches import TrainingBatches, evaluation_batches
from tuner.data.cache import CachedImages, open_cache
from tuner.data.letterbox import canvas_for, placements
from tuner.data.split import Split
from tuner.evaluation.coco import CocoEvaluator
from tuner.postprocess.nms import suppress
from tuner.trainers.detection.optimizer import build_optimizer
from tuner.trainers.detection.precision import Precision
from tuner.trainers.detection.predict import predict
from tuner.trainers.detection.step import TrainStep

SIZE = 192
STEPS = dict.fromkeys(NAMES, 12) | {"ssd300-vgg16": 8, "fasterrcnn-mobilenet": 30, "ssdlite320-mobilenet": 20}
"""Fewer where a step costs much."""


@pytest.fixture(scope="module")
def photograph(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Split, CachedImages]:
    """One photograph of blood cells, small."""
    folder = tmp_path_factory.mktemp("photograph")
    content = json.loads((shared / "data" / "bccd" / "annotations" / "train.json").read_text())
    first = content["images"][0]
    content["images"] = [first]
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] == first["id"]]
    (folder / "one.json").write_text(json.dumps(content))
    split, _ = read_annotations(folder / "one.json", shared / "data" / "bccd" / "images", name="train")
    return split, open_cache(split, canvas_for(split.sizes, SIZE), folder)


# fasterrcnn-mobilenet-320 differs from fasterrcnn-mobilenet in the number of proposals in evaluation alone.
@pytest.mark.parametrize("name", [name for name in NAMES if name != "fasterrcnn-mobilenet-320"])
def test_a_few_steps_lower_the_loss_and_raise_the_map(name: str, photograph: tuple[Split, CachedImages]) -> None:
    """On the photograph that is trained on: more than that is not learnt from scratch in so few steps."""
    split, cached = photograph
    canvas = canvas_for(split.sizes, SIZE)
    config = TrialConfig(model=name, image_size=SIZE, batch_size=1, learning_rate=1e-4, precision="fp32")
    precision = Precision(config, torch.device("cpu"))
    evaluator = CocoEvaluator(split)
    detector = build(name, len(split.classes), canvas)
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # in so few steps a slow average would lag behind

    def judge() -> float:
        raw = predict(detector, evaluation_batches(cached, 1), placements(split.sizes, canvas), split.sizes, precision)
        found = evaluator.evaluate(suppress(raw, config.nms_iou, max_detections=config.max_detections)).map
        assert found is not None
        return found

    untrained = judge()
    step = TrainStep(detector.train(), build_optimizer(detector, config), precision, config)
    batches = TrainingBatches(split, cached, Augment(mosaic=0, strength=0, horizontal_flip=0), 1, seed=0, epochs=1)
    losses = [float(sum(step(next(batches.epoch(0))).values())) for _ in range(STEPS[name])]
    assert np.mean(losses[-3:]) < 0.9 * np.mean(losses[:3])
    assert judge() > untrained + 0.005
