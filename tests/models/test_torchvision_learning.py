"""Each kind of torchvision's detectors learns: on real photographs where they are, else on generated scenes.

That larger networks of the same kind are taught in all their parts is `test_torchvision.py`'s to show.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.models.torchvision_scenes import build
from tuner.config.study import DataSpec
from tuner.config.trial import Augment, TrialConfig
from tuner.data.annotations import read_annotations
from tuner.data.batches import TrainingBatches, evaluation_batches
from tuner.data.cache import CachedImages, open_cache
from tuner.data.letterbox import canvas_for, placements
from tuner.data.scenes import generate
from tuner.data.split import Split
from tuner.evaluation.coco import CocoEvaluator
from tuner.postprocess.nms import suppress
from tuner.trainers.detection.optimizer import build_optimizer
from tuner.trainers.detection.precision import Precision
from tuner.trainers.detection.predict import predict
from tuner.trainers.detection.step import TrainStep

REAL = Path(__file__).parents[3] / "shared" / "data" / "bccd"
SIZE = 192
STEPS = {
    "fasterrcnn-mobilenet": 30,
    "fasterrcnn-mobilenet-320": 30,
    "retinanet-resnet50-v2": 12,
    "fcos-resnet50": 12,
    "ssd300-vgg16": 8,
    "ssdlite320-mobilenet": 20,
}
"""As many as carry the loss well below the bound: most for two stages, whose random regions make each loss noisy."""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Split, CachedImages]:
    """Two photographs of blood cells, or two scenes, small."""
    folder = tmp_path_factory.mktemp("pictures")
    data = DataSpec(root=REAL, train=Path("annotations/train.json"), val=Path("annotations/val.json"))
    if not REAL.is_dir():
        data = generate(folder, train=2, val=2, test=0, size=(640, 480))
    content = json.loads(data.path(data.train).read_text())
    content["images"] = content["images"][:2]
    ids = [image["id"] for image in content["images"]]
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] in ids]
    (folder / "two.json").write_text(json.dumps(content))
    split, _ = read_annotations(folder / "two.json", data.path(data.images), name="train")
    return split, open_cache(split, canvas_for(split.sizes, SIZE), folder)


@pytest.mark.parametrize("name", STEPS)
def test_a_few_steps_lower_the_loss_and_raise_the_map(name: str, pictures: tuple[Split, CachedImages]) -> None:
    """On the pictures that are trained on: more than that is not learnt from scratch in so few steps."""
    split, cached = pictures
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
    losses = [float(sum(step(batch).values())) for _ in range(STEPS[name] // 2) for batch in batches.epoch(0)]
    assert np.mean(losses[-4:]) < 0.9 * np.mean(losses[:4])
    assert judge() > untrained + 0.005
