"""Production configs: what they say about trust, and that they come back from disk as they went."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.production import make_production
from tuner.config.errors import ConfigError
from tuner.config.files import write_text
from tuner.config.study import DataSpec, ObjectiveSpec
from tuner.config.trial import TrialConfig
from tuner.evaluation.metrics import Metrics
from tuner.export.production import ProductionConfig
from tuner.export.yaml_files import load_production, read_yaml_model, save_production, write_yaml
from tuner.postprocess.operating_point import OperatingPoint

POINT = OperatingPoint(
    nms_iou=0.55, confidence=0.4375, class_confidence={"disc": 0.25}, precision=0.75, recall=0.5, f1=0.6
)
METRICS = Metrics(
    map=0.5,
    map50=0.75,
    map75=None,
    map_small=None,
    map_medium=0.5,
    map_large=None,
    ar1=0.25,
    ar10=0.5,
    ar100=0.5,
    ar_small=None,
    ar_medium=0.5,
    ar_large=None,
    class_map={"disc": 0.5},
    operating_point=POINT,
)


def production(value: float = 0.5, default: float | None = 0.45, direction: str = "maximize") -> ProductionConfig:
    return make_production(
        TrialConfig(anchor_sizes=(((8.5, 9.25), (16, 17)), ((32, 30),))),
        POINT,
        DataSpec(root=Path("/data"), train=Path("train.json"), val=Path("val.json")),
        metrics=METRICS,
        objective=ObjectiveSpec(metric="map", direction=direction),
        value=value,
        default_value=default,
    )


def test_comes_back_as_it_went(tmp_path: Path) -> None:
    path = tmp_path / "best.yaml"
    save_production(production(), path)
    assert load_production(path) == production()


def test_header_says_what_it_is_and_how_far_to_trust_it(tmp_path: Path) -> None:
    path = tmp_path / "best.yaml"
    save_production(production(), path)
    header = "\n".join(line for line in path.read_text().splitlines() if line.startswith("#"))
    assert "trial 7 of study cells" in header
    assert "unconfirmed: one run; a gain of 0.0500 over the default may be noise" in header
    assert "tuner train best.yaml" in header


@pytest.mark.parametrize(
    ("value", "default", "direction", "trust"),
    [
        (0.5, None, "maximize", "no finished default trial"),
        (0.5, 0.5, "maximize", "no gain over the default"),
        (0.4, 0.5, "maximize", "worse than the default"),
        (0.4, 0.5, "minimize", "a gain of 0.1000"),
    ],
)
def test_trust(value: float, default: float | None, direction: str, trust: str) -> None:
    assert trust in production(value, default, direction).provenance.trust


def test_replaces_nothing_unless_told(tmp_path: Path) -> None:
    path = tmp_path / "best.yaml"
    path.write_text("mine")
    with pytest.raises(ConfigError, match="exists"):
        save_production(production(), path)
    assert path.read_text() == "mine"
    save_production(production(), path, force=True)
    assert load_production(path) == production()


@pytest.mark.parametrize("gap", ["\n", "\r\n", "\x85", "\u2028", "\u2029", "\x0b", "\x07", "\t", " é "])
def test_a_name_of_any_letters_leaves_a_file_that_can_be_read(gap: str, tmp_path: Path) -> None:
    path, name = tmp_path / "point.yaml", f"red{gap}cell: [1"
    point = POINT.model_copy(update={"class_confidence": {name: 0.25}})
    write_yaml(point, path, [f"Classes: {name}.", "The end"], force=False)
    assert read_yaml_model(path, OperatingPoint) == point
    assert path.read_text().splitlines()[1] == "# The end"


def test_class_names_that_look_like_numbers_stay_names(tmp_path: Path) -> None:
    names = ("12E4", "1e5", "1.5e3", "0x1F", "1_000", "yes", "null", "~")
    told = production()
    point = told.operating_point.model_copy(update={"class_confidence": dict.fromkeys(names, 0.25)})
    metrics = told.metrics.model_copy(update={"class_map": dict.fromkeys(names, 0.5)})
    software = {"torch": "12E4"}
    provenance = told.provenance.model_copy(update={"software": software, "study": "1e5"})
    told = told.model_copy(update={"operating_point": point, "metrics": metrics, "provenance": provenance})
    save_production(told, tmp_path / "best.yaml")
    assert load_production(tmp_path / "best.yaml") == told


def test_says_where_a_mistake_is(tmp_path: Path) -> None:
    path = tmp_path / "best.yaml"
    save_production(production(), path)
    lines = path.read_text().splitlines()
    row = next(i for i, line in enumerate(lines) if "learning_rate:" in line)
    lines[row] = "  learning_rat: 0.002"
    path.write_text("\n".join(lines))
    with pytest.raises(ConfigError, match=rf"best.yaml:{row + 1}: .*learning_rat") as caught:
        load_production(path)
    assert "learning_rate" in caught.value.message


def test_a_study_file_is_told_from_a_production_config(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("name: cells\ndata: {train: t.json, val: v.json}\n")
    with pytest.raises(ConfigError, match="is a study file") as error:
        load_production(path)
    assert "tuner export" in error.value.hint


def test_says_that_the_folder_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        save_production(production(), tmp_path / "none" / "best.yaml")


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "best.yaml").mkdir()
    with pytest.raises(ConfigError, match=r"cannot write .*best\.yaml: Is a directory"):
        write_text(tmp_path / "best.yaml", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["best.yaml"]
