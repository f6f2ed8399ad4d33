"""`tuner init` on folders of other formats than COCO's."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.init_command import run_init
from tests.coco_files import names_of, write_images
from tuner.config.errors import ConfigError
from tuner.config.load import base_config, load_study_spec
from tuner.data.coco import load_dataset
from tuner.space.load import load_space


@pytest.fixture
def yolo(tmp_path: Path) -> Path:
    root = tmp_path / "cells"
    for role, count in (("train", 12), ("val", 6)):
        write_images(root / "images" / role, names_of(role, count))
        (root / "labels" / role).mkdir(parents=True)
        for name in names_of(role, count)[1:]:
            (root / "labels" / role / name).with_suffix(".txt").write_text("0 0.5 0.5 0.25 0.5\n1 0.2 0.2 0.3 0.3\n")
    (root / "data.yaml").write_text("path: .\ntrain: images/train\nval: images/val\nnames: [red, blue]\n")
    return root


def test_a_yolo_folder_becomes_a_study(yolo: Path) -> None:
    study = yolo / "study.yaml"
    output = run_init(yolo, "-o", study).replace("\n", " ")
    assert "data.yaml describes a YOLO data set" in output
    assert "1 of 12 images of train have no file of labels" in output
    assert "study.train.json" in output
    with pytest.raises(ConfigError, match=r"study\.yaml, .*is there already"):
        run_init(yolo, "-o", study)
    before = {path: path.read_bytes() for path in yolo.glob("study.*")}
    run_init(yolo, "-o", study, "--force")  # its own files are no COCO files of the data set
    assert {path: path.read_bytes() for path in yolo.glob("study.*")} == before
    spec = load_study_spec(study)
    assert spec.name == "cells"
    dataset = load_dataset(spec.data)
    assert [len(split) for split in dataset.splits] == [12, 6]
    assert dataset.train.classes == ("red", "blue")
    assert dataset.train.boxes[0].tolist() == [36, 16, 24, 32]
    load_space(spec.space).default_config(base_config(spec))


def test_the_file_that_describes_the_data_is_not_overwritten(yolo: Path) -> None:
    before = (yolo / "data.yaml").read_bytes()
    with pytest.raises(ConfigError, match=r"data\.yaml would be overwritten, but is read"):
        run_init(yolo, "-o", yolo / "data.yaml", "--force")
    assert (yolo / "data.yaml").read_bytes() == before


def test_a_voc_folder_is_divided(tmp_path: Path) -> None:
    write_images(tmp_path / "JPEGImages", names_of("x", 10))
    (tmp_path / "Annotations").mkdir()
    for name in names_of("x", 10):
        (tmp_path / "Annotations" / name).with_suffix(".xml").write_text(
            "<annotation><object><name>dog</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>40</xmax><ymax>50</ymax>"
            "</bndbox></object></annotation>"
        )
    output = run_init(tmp_path, "-o", tmp_path / "study.yaml").replace("\n", " ")
    assert "holds a Pascal VOC data set" in output
    dataset = load_dataset(load_study_spec(tmp_path / "study.yaml").data)
    assert [len(split) for split in dataset.splits] == [8, 2]
    assert dataset.train.boxes[0].tolist() == [0, 1, 40, 49]
