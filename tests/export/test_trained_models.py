"""What a production training hands over: weights that can be loaded, of a network on the trial's canvas."""

from __future__ import annotations

import json
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torchvision.models import mobilenet_v3_large

from tests.export.command import run
from tests.production import make_production
from tuner.config.alive import Activity
from tuner.config.errors import ConfigError, WeightsError
from tuner.config.load import base_config, load_study_spec
from tuner.config.study import DataSpec
from tuner.config.trial import TrialConfig
from tuner.data.coco import load_dataset, load_split
from tuner.data.letterbox import canvas_for
from tuner.data.scenes import generate
from tuner.export import training
from tuner.export.model import load_model, save_model
from tuner.export.production import ProductionConfig
from tuner.export.training import train_production
from tuner.export.training_plan import make_plan
from tuner.models.anchors import resolve_anchors
from tuner.postprocess.operating_point import OperatingPoint
from tuner.space.load import load_space
from tuner.studies.named_things import check_named_things
from tuner.trainers.contract import DiskFull, EpochResult, StopRequested, TrainingTask
from tuner.trainers.detection.run import TrainingRun
from tuner.trainers.detection.train import train


def test_a_model_that_began_with_a_classifier_s_weights_is_loaded_without_them(data: DataSpec, tmp_path: Path) -> None:
    weights = tmp_path / "classifier.pth"
    torch.manual_seed(0)
    torch.save(mobilenet_v3_large(num_classes=3).state_dict(), weights)
    values = {"epochs": 1, "warmup_epochs": 0.5, "batch_size": 4, "learning_rate": 1e-5, "precision": "fp32"}
    config = TrialConfig(model="ssdlite320-mobilenet", weights=str(weights), image_size=96, **values)
    point = OperatingPoint(nms_iou=0.5, confidence=0.3, precision=0.5, recall=0.5, f1=0.5)
    production = make_production(resolve_anchors(config, load_dataset(data).train), point, data)
    plan = make_plan(production, tmp_path / "model", epochs=None, seed=None, part="train")
    told: list[tuple[str, int, int]] = []

    def alive(done: int = 0, total: int = 0, what: Activity = "training") -> None:
        told.append((what, done, total))

    train_production(
        plan, device="cpu", threads=1, stop_requested=lambda: False, on_epoch=lambda result: None, alive=alive
    )
    tested = len(load_split(data, "test")[0])
    assert {"reading", "training", "sweeping"} < {what for what, _, _ in told}
    assert told[-1] == ("evaluating", tested, tested)  # the look at the test split comes last
    weights.unlink()
    info = load_model(tmp_path / "model").info
    assert info.config.weights == str(weights)
    with pytest.raises(WeightsError, match="does not fit"):
        save_model(tmp_path / "other", {"other": torch.zeros(1)}, info)
    assert not (tmp_path / "other" / "weights.pt").exists()


def test_a_study_that_starts_from_a_trained_model(
    model: Path, data: DataSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [argument for split in ("train", "val") for argument in ("--annotations", data.path(getattr(data, split)))]
    arguments = ["init", "--images", data.path(data.images), *files, "--device", "cpu"]
    assert run(*arguments, "-o", tmp_path / "study.yaml", "--weights", model) == 0
    study = (tmp_path / "study.yaml").read_text()
    spec = load_study_spec(tmp_path / "study.yaml")
    config = base_config(spec)
    assert (config.model, config.weights) == ("dense-tiny", str(model / "weights.pt"))
    (tmp_path / "again.yaml").write_text(study.replace(str(model / "weights.pt"), str(model)))
    assert base_config(load_study_spec(tmp_path / "again.yaml")).weights == str(model / "weights.pt")
    check_named_things(spec, load_space(spec.space), config)
    assert run(*arguments, "-o", tmp_path / "other.yaml", "--weights", model, "--model", "dense-small") == 1
    assert f"{model / 'weights.pt'} holds a dense-tiny, not a dense-small" in capsys.readouterr().err
    assert not (tmp_path / "other.yaml").exists()
    (tmp_path / "by_hand.yaml").write_text(study.replace("model: dense-tiny", "model: dense-small"))
    spec = load_study_spec(tmp_path / "by_hand.yaml")
    with pytest.raises(
        ConfigError, match=r"by_hand.yaml:\d+: weights: .*weights.pt holds a dense-tiny, not a dense-small"
    ):
        check_named_things(spec, load_space(spec.space), base_config(spec))


def test_a_model_without_its_config_is_not_guessed_at(
    model: Path, data: DataSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = shutil.copy(model / "weights.pt", tmp_path)
    files = [argument for split in ("train", "val") for argument in ("--annotations", data.path(getattr(data, split)))]
    arguments = ["init", "--images", data.path(data.images), *files, "--device", "cpu", "--weights", weights]
    assert run(*arguments, "-o", tmp_path / "study.yaml") == 1
    assert "holds a detector, but no config.yaml beside it says which one" in capsys.readouterr().err
    assert run(*arguments, "-o", tmp_path / "study.yaml", "--model", "dense-tiny") == 0


def test_train_and_val_together_keep_the_canvas_of_the_trial(
    production: ProductionConfig, data: DataSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much of the other split stands upright."""
    upright = generate(tmp_path / "upright", train=1, val=24, test=1, size=(48, 96), seed=6)
    mixed = data.model_copy(update={"val": upright.path(upright.val)})
    content = json.loads(mixed.path(mixed.val).read_text())
    for image in content["images"]:
        image["file_name"] = str(upright.path(upright.images) / image["file_name"])
    (tmp_path / "val.json").write_text(json.dumps(content))
    source = production.provenance.model_copy(
        update={"data": mixed.model_copy(update={"val": tmp_path / "val.json"}), "fingerprint": None}
    )
    plan = make_plan(
        production.model_copy(update={"provenance": source}), tmp_path / "m", epochs=1, seed=None, part="train+val"
    )
    trained_on = []

    def watched(task: TrainingTask, stop_requested: StopRequested) -> Iterator[EpochResult]:
        trained_on.append(TrainingRun(task).data.canvas)
        return train(task, stop_requested)

    monkeypatch.setattr(training, "train", watched)
    train_production(plan, device="cpu", threads=1, stop_requested=lambda: False, on_epoch=lambda result: None)
    own = canvas_for(load_split(data, "train")[0].sizes, 96)
    assert (trained_on, load_model(tmp_path / "m").canvas) == ([own], own)


def test_a_full_disk_is_said_and_leaves_no_part_of_the_weights(model: Path, tmp_path: Path) -> None:
    loaded = load_model(model)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))  # a write beyond fails as on a full disk
    try:
        with pytest.raises(DiskFull, match=r"weights\.pt\S* cannot be written") as error:
            save_model(tmp_path / "model", loaded.detector.state_dict(), loaded.info)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert error.value.hint.startswith("Free disk space")
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["config.yaml"]
    save_model(tmp_path / "model", loaded.detector.state_dict(), loaded.info)
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["config.yaml", "weights.pt"]
