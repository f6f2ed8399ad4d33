import json
from pathlib import Path

import cv2
import pytest
from typer.testing import CliRunner

from tuner.cli.app import app
from tuner.config.errors import ConfigError, DataError
from tuner.data.scenes import generate


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    generate(folder, train=12, val=2, test=2)
    return folder


def run(*arguments):
    result = CliRunner().invoke(app, ["anchors", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_the_sets_of_all_recipes_stand_beside_the_default(scenes, tmp_path):
    picture = tmp_path / "new" / "anchors.png"
    result = run(scenes, "-k", 6, "--image-size", 192, "-o", picture)
    assert result.exit_code == 0
    for name in ("default", "kmeans-iou", "kmeans-wh-balanced", "kmeans-ratio-balanced-free"):
        assert f"{name}:" in result.stdout
    assert "192 x 160" in result.stdout
    assert "Best possible recall at ratio 4" in result.stdout
    assert cv2.imread(str(picture)).std() > 10


def test_json_holds_the_sets_and_their_fit(scenes):
    result = run(scenes / "annotations" / "train.json", "-k", 6, "--recipe", "kmeans-iou", "--json")
    data = json.loads(result.stdout)
    assert data["model"] == "dense-tiny"
    assert data["strides"] == [8, 16, 32]
    assert [len(level) for level in data["sets"]["kmeans-iou"]["anchors"]] == [2, 2, 2]
    assert [len(level) for level in data["sets"]["default"]["anchors"]] == [3, 3, 3]
    fit = data["sets"]["kmeans-iou"]["fit"]
    assert fit["all"]["mean_iou"] > data["sets"]["default"]["fit"]["all"]["mean_iou"]
    assert set(fit["by_size"]) == {"small", "medium", "large"}
    assert set(fit["by_class"]) == {"disc", "bar", "spot"}


def test_a_study_file_says_data_model_and_image_size(scenes, tmp_path):
    study = tmp_path / "study.yaml"
    study.write_text(
        f"name: s\ndata: {{root: {scenes}, train: annotations/train.json, val: annotations/val.json}}\n"
        "defaults: {model: ssdlite320-mobilenet, image_size: 256}\n"
    )
    data = json.loads(run(study, "--recipe", "kmeans-wh", "--json").stdout)
    assert data["model"] == "ssdlite320-mobilenet"
    assert max(data["canvas"]) == 256
    assert [len(level) for level in data["sets"]["kmeans-wh"]["anchors"]] == [6] * 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-k", "7"], "cannot be shared evenly"),
        (["--model", "fcos-resnet50"], "has no anchors"),
        (["--model", "dense-tyni"], "no detector"),
        (["--recipe", "kmeans"], "no recipe"),
        (["-o", "anchors.txt"], "neither a png nor an svg"),
    ],
)
def test_a_wrong_option_is_an_error_that_says_so(scenes, arguments, message):
    with pytest.raises(ConfigError, match=message):
        run(scenes, *arguments)


def test_missing_data_is_an_error(tmp_path):
    with pytest.raises(DataError):
        run(Path(tmp_path / "none.json"))


def test_a_number_that_a_recipe_has_not_is_refused(scenes):
    with pytest.raises(ConfigError, match="-k: 9 anchors were asked for, but kmeans-iou-2 has 2 for each of 3 levels"):
        run(scenes, "--recipe", "kmeans-iou-2", "-k", 9)
    assert "kmeans-iou-2:" in run(scenes, "--recipe", "kmeans-iou-2", "-k", 6).stdout


def test_what_to_name_instead_is_something_that_the_command_takes(scenes, tmp_path):
    with pytest.raises(DataError) as error:
        run(tmp_path / "nowhere")
    assert error.value.hint == "Name a study file, a COCO JSON, or a folder of both."
    for name in ("one.json", "two.json"):
        (tmp_path / name).write_bytes((scenes / "annotations" / "train.json").read_bytes())
    with pytest.raises(DataError) as error:
        run(tmp_path)
    assert error.value.hint == "Name the COCO JSON of the training split itself."
    assert f"boxes of {scenes / 'annotations' / 'train.json'}" in run(scenes, "--recipe", "kmeans-iou").stdout


def test_a_file_in_the_current_folder_needs_no_path(scenes, monkeypatch):
    monkeypatch.chdir(scenes / "annotations")
    result = run("train.json", "-k", 6, "--recipe", "kmeans-iou", "--json")
    assert list(json.loads(result.stdout)["sets"]) == ["default", "kmeans-iou"]
