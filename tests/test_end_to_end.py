"""The whole line as a user walks it, with real training: init, run, look, export, train, predict, evaluate."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import tuner
from tuner.config.study import DataSpec
from tuner.data import scenes

TUNER = Path(sys.executable).with_name("tuner")


def call(folder: Path, *arguments: str, code: int = 0) -> str:
    done = subprocess.run([TUNER, *arguments], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout + done.stderr if code else done.stdout


def call_json(folder: Path, *arguments: str) -> Any:
    return json.loads(call(folder, *arguments, "--json"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSpec:
    return scenes.generate(tmp_path_factory.mktemp("data"), train=24, val=8, test=8, size=(128, 96), seed=2)


@pytest.fixture(scope="module")
def folder(data: DataSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished study called `cells`."""
    folder = tmp_path_factory.mktemp("user")
    files = [f"--annotations={data.root / 'annotations' / split}.json" for split in ("train", "val", "test")]
    text = call(folder, "init", f"--images={data.root / 'images'}", *files, "--name=cells", "-o", "study.yaml")
    assert "tuner run study.yaml" in text
    assert "boxes" in call(folder, "anchors", "study.yaml", "-k", "6", "--image-size", "128")
    plan = call(folder, "run", "study.yaml", "--trials=3", "--epochs=3", "--dry-run")
    assert "budget     3 trials, 3 epochs at most for each" in plan
    assert not (folder / "tuner-studies" / "cells").exists()
    text = call(folder, "run", "study.yaml", "--trials=3", "--epochs=3")
    assert "tuner export cells" in text
    assert "tuner dashboard" in text
    return folder


def test_the_study_is_told_from_all_sides(folder: Path) -> None:
    status = call_json(folder, "status", "cells")
    assert sum(status["counts"].values()) == 3
    assert [study["name"] for study in call_json(folder, "list")] == ["cells"]
    trials = call_json(folder, "show", "cells", "--curves=curves.png")
    assert (folder / "curves.png").stat().st_size > 10_000
    assert [trial["number"] for trial in trials] == [0, 1, 2]
    assert all(trial["config"]["anchor_sizes"] for trial in trials)
    trial = call_json(folder, "show", "cells", "0")
    assert len(trial["epochs"]) == 3
    assert "cells" in call(folder, "best", "cells")


def test_the_finished_study_trains_nothing_again(folder: Path) -> None:
    before = call_json(folder, "show", "cells")
    call(folder, "run", "study.yaml", "--trials=3", "--epochs=3")
    assert call_json(folder, "show", "cells") == before


def test_another_spec_under_the_same_name_is_refused(folder: Path) -> None:
    text = call(folder, "run", "study.yaml", "--trials=3", "--epochs=4", code=1)
    assert "epochs" in text
    assert "3" in text
    assert "4" in text


def test_the_best_config_trains_production(folder: Path, data: DataSpec) -> None:
    call(folder, "export", "cells", "-o", "best.yaml")
    call(folder, "train", "best.yaml", "-o", "model", "--epochs=2")
    metrics = json.loads((folder / "model" / "metrics.json").read_text())
    assert metrics["split"] == "test"
    image = sorted((data.root / "images").iterdir())[0]
    call(folder, "predict", "model", str(image), "-o", "out")
    found = json.loads(next((folder / "out").glob("*.json")).read_text())
    assert isinstance(found, list | dict)
    own = call_json(folder, "evaluate", "model", "--data", "study.yaml")
    oracle = json.loads(call(folder, "evaluate", "model", "--data", "study.yaml", "--evaluator=pycocotools", "--json"))
    assert own["metrics"]["map"] == pytest.approx(oracle["metrics"]["map"], abs=1e-9)
    assert own["metrics"]["map"] == pytest.approx(metrics["metrics"]["map"], abs=1e-9)


def test_deleting_asks_first_and_leaves_nothing(folder: Path) -> None:
    call(folder, "run", "study.yaml", "--trials=1", "--epochs=1", "--storage=sqlite:///other/tuner.db")
    where = "--storage=sqlite:///other/tuner.db"
    done = subprocess.run([TUNER, "delete", "cells", where], cwd=folder, input="n\n", capture_output=True, text=True)
    assert done.returncode != 0
    assert len(json.loads(call(folder, "list", where, "--json"))) == 1
    call(folder, "delete", "cells", where, "--yes")
    assert json.loads(call(folder, "list", where, "--json")) == []


def test_the_readme_s_scripts(folder: Path, data: DataSpec, tmp_path: Path) -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    scripts = re.findall(r"^```python\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)
    search, use, deploy = (
        next(script for script in scripts if call in script)
        for call in ("tuner.run_worker", "tuner.load_model", "onnxruntime.InferenceSession")
    )
    values = yaml.safe_load((folder / "study.yaml").read_text())
    values["defaults"] |= {"epochs": 1}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(values | {"name": "script", "budget": {"trials": 1}}))
    shutil.copy(sorted((data.root / "images").iterdir())[0], tmp_path / "photo.jpg")

    def script(text: str) -> str:
        done = subprocess.run([sys.executable, "-c", text], cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "NMS IoU" in script(search)
    call(tmp_path, "train", "best.yaml", "-o", "model")
    call(tmp_path, "predict", "model", "photo.jpg")
    found = json.loads((tmp_path / "predictions" / "detections.json").read_text())
    assert script(use).count("photo.jpg") == len(found["annotations"])
    call(tmp_path, "onnx", "model", "-o", "model.onnx")
    canvas = tuner.load_model(tmp_path / "model").canvas
    images = f"import numpy\nimages = numpy.zeros((1, 3, {canvas.height}, {canvas.width}), numpy.uint8)\n"
    assert "nms_iou" in script(images + deploy)


def test_the_package_shows_what_a_script_needs() -> None:
    assert {name for name in dir(tuner) if not name.startswith("__")} == set(tuner.__all__)
    assert {getattr(tuner, name).__name__ for name in tuner.__all__} == set(tuner.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        tuner.nothing  # noqa: B018
