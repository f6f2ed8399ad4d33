from __future__ import annotations

from pathlib import Path

import pytest

from tests.export.command import run
from tests.production import make_production
from tuner.config.study import DataSpec
from tuner.config.trial import TrialConfig
from tuner.data.coco import load_dataset
from tuner.data.fingerprint import fingerprint
from tuner.data.scenes import generate
from tuner.export.production import ProductionConfig
from tuner.export.yaml_files import save_production
from tuner.models.anchors import resolve_anchors
from tuner.postprocess.operating_point import OperatingPoint


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSpec:
    return generate(tmp_path_factory.mktemp("scenes"), train=8, val=4, test=4, size=(96, 72), seed=5)


@pytest.fixture(scope="module")
def production(data: DataSpec) -> ProductionConfig:
    dataset = load_dataset(data)
    config = resolve_anchors(TrialConfig(image_size=96, epochs=2, batch_size=4, warmup_epochs=0.5), dataset.train)
    names = dataset.train.classes
    # Low enough that two epochs show something, and not for every class.
    point = OperatingPoint(
        nms_iou=0.5, confidence=0.003, class_confidence={names[1]: 0.9}, precision=0.5, recall=0.5, f1=0.5
    )
    return make_production(config, point, data, fingerprint=fingerprint(data, dataset))


@pytest.fixture(scope="module")
def model(production: ProductionConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("production")
    save_production(production, folder / "best.yaml")
    assert run("train", folder / "best.yaml", "-o", folder / "model", "--device", "cpu") == 0
    return folder / "model"
