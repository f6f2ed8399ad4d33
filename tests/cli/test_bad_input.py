"""What users get wrong ends with one precise message and never with a traceback."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tuner.cli.main import main
from tuner.config.errors import ConfigError, WeightsError
from tuner.config.load import load_study_spec
from tuner.config.study import DataSpec
from tuner.data.scenes import generate
from tuner.studies.opening import check_study, create_or_open

Call = Callable[..., str]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSpec:
    return generate(tmp_path_factory.mktemp("données, 数据"), train=4, val=2, test=1, size=(64, 48), seed=1)


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Call the command; it must fail, with what it says on stderr as the answer."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNER_STORAGE", f"sqlite:///{tmp_path}/tuner.db")
    (tmp_path / "a file").write_text("no folder")

    def fail(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["tuner", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 1
        return capsys.readouterr().err

    return fail


def study(folder: Path, data: DataSpec, **changes: object) -> Path:
    path = folder / "study.yaml"
    path.write_text(json.dumps({"name": "x", "data": data.model_dump(mode="json")} | changes))
    return path


def test_an_output_that_cannot_be_written_is_named(call: Call, data: DataSpec, tmp_path: Path) -> None:
    images, train = data.path(data.images), data.path(data.train)
    said = call("init", "--images", images, "--annotations", train, "-o", "a file/study.yaml", "--device", "cpu")
    assert said.startswith("error: a file: is there already, and is no folder")
    (tmp_path / "anchors.png").mkdir()
    said = call("anchors", train, "-o", "anchors.png")
    assert said.startswith("error: cannot write anchors.png: Is a directory")
    assert "Choose a folder that is writable" in said


def test_a_dry_run_finds_what_the_run_would_refuse(call: Call, data: DataSpec, tmp_path: Path) -> None:
    assert "no metric 'mapp'" in call("run", study(tmp_path, data, objective={"metric": "mapp"}), "--dry-run")
    nowhere = f"sqlite:///{tmp_path}/a file/tuner.db"
    assert "/a file is a file" in call("run", study(tmp_path, data), "--dry-run", "--storage", nowhere)
    pruner = {"name": "percentile", "percentile": 500}
    assert "percentile" in call("run", study(tmp_path, data, pruner=pruner), "--dry-run")


@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_fp16_on_a_cpu_is_refused_before_a_study_is_made(
    options: list[str], call: Call, data: DataSpec, tmp_path: Path
) -> None:
    file = study(tmp_path, data, defaults={"precision": "fp16"}, device="cpu")
    said = call("run", file, *options)
    assert said.startswith("error: precision is or may be fp16, which needs a GPU, but there are slots on the CPU")
    assert "precision: auto" in said
    assert not (tmp_path / "tuner.db").exists()


def test_a_missing_file_of_weights_is_found_before_a_study_is_made(call: Call, data: DataSpec, tmp_path: Path) -> None:
    file = study(tmp_path, data, defaults={"weights": "trunk.pt", "model": "dense-small"})
    missing = f"there is no file {tmp_path / 'trunk.pt'}"
    assert missing in call("run", file, "--dry-run")
    assert missing in call("run", file, "--dry-run", "--json")
    with pytest.raises(WeightsError, match="there is no file"):
        create_or_open(load_study_spec(file))
    assert not (tmp_path / "tuner.db").exists()
    choices = ["none", str(tmp_path / "trunk.pt")]
    space = {"weights": {"type": "categorical", "choices": choices}}
    assert f"study.yaml:1: weights.choices: {missing}" in call("run", study(tmp_path, data, space=space), "--dry-run")


def test_a_file_that_holds_no_weights_is_found_before_a_study_is_made(
    call: Call, data: DataSpec, tmp_path: Path
) -> None:
    weights = tmp_path / "trunk.pt"
    file = study(tmp_path, data, defaults={"weights": "trunk.pt", "model": "dense-small"}, device="cpu")
    whole = io.BytesIO()
    torch.save({"a": torch.zeros(1000)}, whole)
    archive = io.BytesIO()
    np.savez(archive, a=np.zeros(3))
    for content in (b"", b"config: {}", b"PK\x03\x04 broken", whole.getvalue()[:-9], archive.getvalue()):
        weights.write_bytes(content)
        for said in (
            call("run", file, "--dry-run"),
            call("init", data.root, "-o", "new.yaml", "--weights", weights, "--device", "cpu"),
        ):
            assert f"weights: {weights} holds no PyTorch weights, or is cut off" in said
    assert "study.yaml:1: weights: " in call("run", file, "--dry-run")
    with pytest.raises(WeightsError, match="holds no PyTorch weights"):
        create_or_open(load_study_spec(file))
    for as_archive in (True, False):  # and those of old versions of PyTorch are weights
        torch.save({"a": torch.zeros(3)}, weights, _use_new_zipfile_serialization=as_archive)
        check_study(load_study_spec(file))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"defaults": {"model": "yolo"}}, "study.yaml:1: model: there is no detector 'yolo'"),
        ({"defaults": {"anchors": "kmean"}}, "study.yaml:1: anchors: there is no recipe 'kmean'"),
        ({"defaults": {"weights": "default"}}, "study.yaml:1: weights: dense-tiny has no pretrained weights"),
        ({"defaults": {"anchors": "custom"}}, "study.yaml:1: anchors: 'custom' without anchor_sizes"),
        (
            {"defaults": {"anchor_sizes": [[[1, 2]]]}},
            "study.yaml:1: anchor_sizes: 1 levels, but dense-tiny has 3 (strides 8, 16, 32)",
        ),
        ({"defaults": {"anchor_sizes": []}}, "study.yaml:1: anchor_sizes: 0 levels, but dense-tiny has 3"),
        (
            {"defaults": {"anchors": "custom", "anchor_sizes": [[[1, 2]], [], [[3, 4]]]}},
            "study.yaml:1: anchor_sizes: 1, 0, 1 anchors at the levels of dense-tiny",
        ),
        (
            {"space": {"model": {"type": "categorical", "choices": ["dense-tiny", "yolo"]}}},
            "study.yaml:1: model.choices: there is no detector 'yolo'",
        ),
        (
            {"space": {"anchors": {"type": "categorical", "choices": ["default", "custom", "kmean"]}}},
            "study.yaml:1: anchors.choices: there is no recipe 'kmean'",
        ),
    ],
)
def test_a_detector_or_recipe_that_there_is_not_is_found_before_a_study_is_made(
    changes: dict[str, object], message: str, call: Call, data: DataSpec, tmp_path: Path
) -> None:
    file = study(tmp_path, data, **{"space": {}} | changes)
    assert message in call("run", file, "--dry-run")
    with pytest.raises(ConfigError, match=r"there is no|has no pretrained|anchor_sizes"):
        create_or_open(load_study_spec(file))
    assert not (tmp_path / "tuner.db").exists()


@pytest.mark.parametrize("key", ["train", "val", "test"])
@pytest.mark.parametrize("path", ["", ".", "annotations"])
def test_a_folder_in_place_of_an_annotation_file_is_named_with_its_key(
    key: str, path: str, call: Call, data: DataSpec, tmp_path: Path
) -> None:
    file = study(tmp_path, data)
    content = json.loads(file.read_text())
    content["data"][key] = path
    file.write_text(json.dumps(content))
    said = call("run", file, "--dry-run")
    assert f"study.yaml:1: data.{key}: {data.root / path} is a folder, not an annotation file" in said
    assert "relative to `data.root`" in said


def test_a_wrong_field_is_told_once(call: Call, data: DataSpec, tmp_path: Path) -> None:
    """Though the default of the learning rate cannot be told then."""
    said = call("run", study(tmp_path, data, defaults={"image_size": -3}), "--dry-run")
    assert "defaults.image_size: should be greater than or equal to 32, found -3" in said
    assert "learning_rate" not in said
