"""Files that describe a data set of YOLO: data.yaml, classes and lists of images, and others beside them."""

from __future__ import annotations

from pathlib import Path

import pytest
from yolo_layouts import content_of, counts_of, find, write

from tests.coco_files import names_of, write_json
from tuner.config.errors import ConfigError, DataError
from tuner.data.import_formats import import_folder


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train: images/train\n", r"data\.yaml: names: expected the class names"),
        ("train: images/train\nnames: red\n", r"data\.yaml:2: names: expected the class names"),
        ("train: images/train\nnames: {a: red}\n", r"data\.yaml:2: names: a: 'red' is no class index"),
        ("train: images/train\nnames: [red, blue]\nnc: 3\n", r"data\.yaml:3: nc: 3, but `names` has 2 classes"),
        ("val: images/val\nnames: [red, blue]\n", r"data\.yaml: `train` is missing"),
        ("names: [red, blue]\ntrain: images/none\n", r"data\.yaml:2: train: images/none does not exist"),
        ("names: [red, blue]\ntrain: 3\n", r"data\.yaml:2: train: expected a path or a list of paths, found 3"),
        ("names: [red, blue]\ntrain: labels/train\n", r"data\.yaml:2: train: no image in"),
        ("names: [red, blue]\ntrain: data.yaml\n", r"is neither a folder nor a \.txt list"),
        ("names: [red, red]\ntrain: images/train\n", "categories have the same name: red"),
        ("names: [red, blue]\ntrain: images/train\nkpt_shape: 3\n", r"data\.yaml:3: kpt_shape: 3, expected two whole"),
        ("names: [red\n", r"data\.yaml:2: not valid YAML"),
    ],
)
def test_faults_of_data_yaml_are_named_by_their_lines(text: str, words: str, ultralytics: Path) -> None:
    write(ultralytics / "data.yaml", text)
    with pytest.raises((ConfigError, DataError), match=words):
        find(ultralytics)


def test_two_descriptions_of_a_data_set_are_not_guessed_between(ultralytics: Path) -> None:
    text = (ultralytics / "data.yaml").read_text()
    (ultralytics / "data.yaml").unlink()
    write(ultralytics / "study.yaml", "name: cells\ndata: {root: .}\n")  # a study file is none
    write(ultralytics / "a.yaml", text)
    assert len(content_of(find(ultralytics), "train")["images"]) == 6
    write(ultralytics / "b.yml", text)
    with pytest.raises(DataError, match=r"a\.yaml and \S*b\.yml both name images and classes"):
        find(ultralytics)


def test_coco_files_come_first_and_two_other_formats_are_not_guessed_between(ultralytics: Path) -> None:
    (ultralytics / "data.yaml").rename(ultralytics.parent / "away.yaml")
    write(ultralytics / "Annotations" / "a.xml", "<annotation/>")
    with pytest.raises(DataError, match="as Pascal VOC has them"):
        find(ultralytics)
    write_json(ultralytics / "train.json", {})
    assert import_folder(ultralytics) is None


def test_xml_of_another_kind_is_passed_over(ultralytics: Path) -> None:
    (ultralytics / "data.yaml").unlink()
    write(ultralytics / "classes.txt", "red\nblue\n")
    write(ultralytics / "classes.label_config.xml", "<View>\n</View>\n")
    assert counts_of(find(ultralytics)) == {"train": 6, "val": 4}
    (ultralytics / "a.xml").write_text('<?xml version="1.0" encoding="utf-16"?><annotation/>', encoding="utf-16")
    with pytest.raises(DataError, match=r"as Pascal VOC has them, such as .*a\.xml, and as YOLO"):
        find(ultralytics)


def test_json_that_lists_no_images_does_not_stand_in_the_way(ultralytics: Path) -> None:
    write_json(ultralytics / ".vscode" / "settings.json", {"images": []})
    write_json(ultralytics / "dataset-metadata.json", {"title": "cells", "images": "many"})  # as Kaggle has it
    found = find(ultralytics)
    assert counts_of(found) == {"train": 6, "val": 4}
    assert any(note.startswith("left out: ") and "dataset-metadata.json" in note for note in found.notes)
    assert not any("settings.json" in note for note in found.notes)
    write_json(ultralytics / "annotations" / "all.json", {"annotations": [], "images": []})
    assert import_folder(ultralytics) is None


def test_yaml_of_another_kind_is_passed_over(ultralytics: Path) -> None:
    (ultralytics / "data.yaml").rename(ultralytics / "cells.yaml")
    write(ultralytics / "authors.yaml", "- Ann\n- Bob\n")
    write(ultralytics / "empty.yml", "")
    assert counts_of(find(ultralytics)) == {"train": 6, "val": 4}
    write(ultralytics / "data.yaml", "- train\n")
    with pytest.raises(ConfigError, match=r"data\.yaml: expected a mapping of keys to values, found a list"):
        find(ultralytics)


def test_a_broken_yaml_file_stops_only_where_no_other_describes_the_data_set(ultralytics: Path) -> None:
    cells = (ultralytics / "data.yaml").rename(ultralytics / "cells.yaml")
    write(ultralytics / "args.yaml", "train: [red\n")
    (ultralytics / "binary.yml").write_bytes(b"\xff\xfe\x80")
    assert counts_of(find(ultralytics)) == {"train": 6, "val": 4}
    write(cells, "names: [red\n")
    write(ultralytics / "training.yaml", "train: {epochs: 3}\n")
    with pytest.raises(ConfigError, match=r"args\.yaml:2: not valid YAML"):
        find(ultralytics)


def test_a_broken_yaml_file_beside_a_classes_file_is_told_and_passed_over(ultralytics: Path) -> None:
    write(ultralytics / "classes.txt", "red\nblue\n")
    broken = (ultralytics / "data.yaml").rename(ultralytics / "deployment.yaml")
    write(broken, "a: 1\n---\nb: 2\n")
    found = find(ultralytics)
    assert counts_of(found) == {"train": 6, "val": 4}
    note = next(note for note in found.notes if "deployment.yaml:2: not valid YAML" in note)
    assert "classes.txt names the classes, and this was passed over" in note
    broken.rename(ultralytics / "data.yaml")
    with pytest.raises(ConfigError, match=r"data\.yaml:2: not valid YAML"):
        find(ultralytics)


@pytest.mark.parametrize("line", ["val: ''", "test: ''", "test: []", "kpt_shape:"])
def test_keys_of_data_yaml_without_a_value_say_nothing(line: str, ultralytics: Path) -> None:
    write(ultralytics / "data.yaml", f"train: images/train\nnames: [red, blue]\n{line}\n")
    assert counts_of(find(ultralytics)) == {"train": 5, "val": 1}


@pytest.mark.parametrize("prefix", ["data/", "./data/"])
def test_lists_of_images_as_cvat_writes_them(prefix: str, ultralytics: Path) -> None:
    write(ultralytics / "train.txt", "".join(f"{prefix}images/train/{name}\n" for name in names_of("train", 6)))
    write(ultralytics / "data.yaml", "path: .\ntrain: train.txt\nval: images/val\nnames: {0: red, 1: blue}\n")
    assert counts_of(find(ultralytics)) == {"train": 6, "val": 4}


def test_names_of_classes_that_are_empty_are_refused(ultralytics: Path) -> None:
    write(ultralytics / "data.yaml", "train: images/train\nnames: ['', blue]\n")
    with pytest.raises(DataError, match=r"data\.yaml:2: names: 0: '' is no class index with its name"):
        find(ultralytics)
    (ultralytics / "data.yaml").unlink()
    write(ultralytics / "labels" / "classes.txt", "\n")
    with pytest.raises(DataError, match=r"labels/classes\.txt is empty: expected the names of the classes"):
        find(ultralytics)


@pytest.mark.parametrize("names", ["[1.50, 1.5, 1e3, true, +7]", "{0: 1.50, 1: 1.5, 2: 1e3, 3: true, 4: +7}"])
def test_names_of_classes_stay_as_they_are_written(names: str, ultralytics: Path) -> None:
    write(ultralytics / "data.yaml", f"train: images/train\nval: images/val\nnc: 5\nnames: {names}\n")
    categories = content_of(find(ultralytics), "train")["categories"]
    assert [row["name"] for row in categories] == ["1.50", "1.5", "1e3", "true", "+7"]
    write(ultralytics / "data.yaml", "train: images/train\nnames: [~, blue]\n")
    with pytest.raises(DataError, match=r"data\.yaml:2: names: 0: None is no class index with its name"):
        find(ultralytics)
