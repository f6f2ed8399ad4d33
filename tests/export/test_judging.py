"""A trained model at another operating point than its own, and on images that it was trained on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import pytest
import yaml

from tests.export.command import run
from tuner.config.errors import ConfigError
from tuner.config.study import DataSpec
from tuner.config.trial import Tiles
from tuner.data.coco import load_split
from tuner.export.model import load_model
from tuner.export.yaml_files import write_yaml

TRAINED_ON = "these images were trained on"


@pytest.fixture
def both(model: Path, tmp_path: Path) -> Path:
    """The model as if it had been trained on train and val."""
    folder = tmp_path / "both"
    shutil.copytree(model, folder)
    info = load_model(model).info.model_copy(update={"trained_on": "train+val"})
    write_yaml(info, folder / "config.yaml", [], force=True)
    return folder


def test_a_calibrated_point_is_used(
    model: Path, data: DataSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert data.val is not None
    point, images = tmp_path / "my op.yaml", ("--images", data.path(data.images))
    judged = ("--data", data.path(data.val), *images, "--device", "cpu")
    assert run("calibrate", model, *judged, "--nms", "soft-linear", "--per-class", "-o", point) == 0
    assert f"Next: tuner predict {model} IMAGE… --point '{point}'" in capsys.readouterr().out
    found = load_model(model, point=point).operating_point
    assert found.nms == "soft-linear"
    assert found != load_model(model).operating_point
    assert run("evaluate", model, *judged, "--point", point, "--json") == 0
    with_point = json.loads(capsys.readouterr().out)
    assert run("evaluate", model, *judged, "--json") == 0
    own = json.loads(capsys.readouterr().out)
    assert with_point["metrics"]["map"] != own["metrics"]["map"]
    assert with_point["f1"] != own["f1"]
    picture = tmp_path / "one.png"
    split, _ = load_split(data, "val")
    shutil.copy(split.images_dir / split.file_names[0], picture)
    shown = []
    for name, confidence in (("none", 1.0), ("all", 0.0)):
        values = yaml.safe_load(point.read_text()) | {"confidence": confidence, "class_confidence": {}}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(values))
        wanted = ("--device", "cpu", "-o", tmp_path / name, "--point", tmp_path / f"{name}.yaml")
        assert run("predict", model, picture, *wanted) == 0
        shown.append(len(json.loads((tmp_path / name / "detections.json").read_text())["annotations"]))
    assert shown[0] == 0 < shown[1]
    assert "at confidence 0.000 and above" in capsys.readouterr().out


def test_tiles_stay_where_a_point_says_nothing_of_them(model: Path, tmp_path: Path) -> None:
    loaded = load_model(model)
    tiled = loaded.operating_point.model_copy(update={"tiles": Tiles(size=64)})
    folder, point = tmp_path / "model", tmp_path / "op.yaml"
    shutil.copytree(model, folder)
    write_yaml(loaded.info.model_copy(update={"operating_point": tiled}), folder / "config.yaml", [], force=True)
    write_yaml(loaded.operating_point, point, [], force=True)
    assert load_model(folder, point=point).operating_point == loaded.operating_point
    values = yaml.safe_load(point.read_text())
    del values["tiles"]
    point.write_text(yaml.safe_dump(values))
    assert load_model(folder, point=point).operating_point == tiled


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"nms_io": 0.5}, "op.yaml:{line}: nms_io: unknown key. Did you mean 'nms_iou'?"),
        ({"confidence": 2}, "op.yaml:{line}: confidence: should be less than or equal to 1, found 2"),
        ({"class_confidence": {"sqare": 0.5}}, "op.yaml: class_confidence: the model has no class 'sqare'"),
        ({"nms": "gready"}, "op.yaml:{line}: nms: "),
    ],
)
def test_what_is_no_point_of_the_model_is_refused(
    model: Path, data: DataSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str], change, words: str
) -> None:
    path = tmp_path / "op.yaml"
    values = load_model(model).operating_point.model_dump(mode="json") | change
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    lines = path.read_text().splitlines()
    line = next(i for i, text in enumerate(lines, start=1) if text.startswith(f"{next(iter(change))}:"))
    split, _ = load_split(data, "test")
    wanted = ("predict", model, split.images_dir / split.file_names[0], "-o", tmp_path / "out")
    assert run(*wanted, "--point", path) == 1
    assert words.format(line=line) in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_point_that_is_not_there(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: no such file"):
        load_model(model, point=tmp_path / "none.yaml")


def test_images_that_were_trained_on_are_noticed(
    model: Path, both: Path, data: DataSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert data.val is not None
    assert data.test is not None
    images = ("--images", data.path(data.images), "--device", "cpu")
    for folder, file, words in (
        (model, data.train, f"{TRAINED_ON} (train): the figures flatter; only images that were not can judge"),
        (model, data.val, None),
        (both, data.train, f"{TRAINED_ON} (train+val)"),
        (both, data.val, f"{TRAINED_ON} (train+val): the figures flatter; the test split alone can judge this model"),
        (both, data.test, None),
    ):
        assert run("evaluate", folder, "--data", data.path(file), *images) == 0
        said = capsys.readouterr().out
        assert TRAINED_ON not in said if words is None else f"note: {words}" in said
        assert run("evaluate", folder, "--data", data.path(file), *images, "--json") == 0
        said = capsys.readouterr()
        json.loads(said.out)
        assert (words is not None) == (TRAINED_ON in said.err)
    judged = ("calibrate", both, "--data", data.path(data.val), *images, "-o", tmp_path / "op.yaml", "--force")
    assert run(*judged) == 0
    assert f"note: {TRAINED_ON} (train+val)" in capsys.readouterr().out
    assert run(*judged, "--json") == 0
    said = capsys.readouterr()
    assert TRAINED_ON in json.loads(said.out)["notes"][0]
    assert f"note: {TRAINED_ON} (train+val)" in said.err


def test_other_images_of_the_same_names_are_not_taken_for_those(
    both: Path, data: DataSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert data.val is not None
    split, _ = load_split(data, "val")
    for name in split.file_names:
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "images" / name), cv2.imread(str(split.images_dir / name))[:, ::-1])
    wanted = ("evaluate", both, "--data", data.path(data.val), "--images", tmp_path / "images", "--device", "cpu")
    assert run(*wanted) == 0
    assert TRAINED_ON not in capsys.readouterr().out
