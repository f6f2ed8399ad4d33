"""Folders as tools lay COCO data sets out, in which `tuner init` finds images and splits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.init_command import run_init, spec_of
from tests.coco_files import coco, names_of, write_images, write_json
from tuner.config.errors import DataError
from tuner.data.coco import load_dataset


def test_splits_beside_the_training_file_are_found(tmp_path: Path) -> None:
    for role, word, count in (("train", "train2017", 20), ("val", "val2017", 9)):
        names = names_of(role, count)
        write_images(tmp_path / "coco" / "images" / word, names)  # COCO: a folder of images for each split
        write_json(tmp_path / "coco" / "annotations" / f"instances_{word}.json", coco(names))
    study = tmp_path / "study.yaml"
    train = tmp_path / "coco" / "annotations" / "instances_train2017.json"
    output = run_init("--images", tmp_path / "coco" / "images", "--annotations", train, "-o", study)
    assert "is taken as the val split" in output.replace("\n", " ")
    spec = spec_of(study)
    assert spec.name == "coco"
    dataset = load_dataset(spec.data)
    assert dataset.train.file_names[0] == "train2017/train000.jpg"
    assert len(dataset.val) == 9


def test_a_folder_as_roboflow_exports_it(tmp_path: Path) -> None:
    root = tmp_path / "robo"
    for folder, count in (("train", 12), ("valid", 6), ("test", 5)):
        write_images(root / folder, names_of(folder, count))
        write_json(root / folder / "_annotations.coco.json", coco(names_of(folder, count)))
    study = tmp_path / "study.yaml"
    run_init("--images", root, "--annotations", root, "-o", study, "--name", "robo")
    dataset = load_dataset(spec_of(study).data)
    assert [len(split) for split in dataset.splits] == [12, 6, 5]
    assert dataset.val.file_names[0] == "valid/valid000.jpg"


LAYOUTS = {  # images of a split, its annotation file, and the image folder of the study
    "roboflow": ("{}", "{}/_annotations.coco.json", ""),
    "coco": ("{}2017", "annotations/instances_{}2017.json", ""),
    "one folder": ("images", "annotations/{}.json", "images"),
    "one folder, odd name": ("JPEGImages", "labels/{}.json", "JPEGImages"),
    "image folders": ("images/{}", "{}.json", ""),
    "split folders": ("{}/images", "{}/annotations.json", ""),
    "fiftyone": ("{}/data", "{}/labels.json", ""),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_folder_alone_is_enough_for_the_usual_layouts(layout: str, tmp_path: Path) -> None:
    """Names are the same in all splits where each has a folder: only the layout says which image is which."""
    folder, annotations, found = LAYOUTS[layout]
    root = tmp_path / "cells"
    sizes = {"train": (96, 64), "val": (64, 96)}
    for split, count in (("train", 12), ("val", 6)):
        names = names_of("" if "{}" in folder else split, count)
        write_images(root / folder.format(split), names, sizes[split])
        content = coco(names, size=sizes[split])
        for image in content["images"]:
            del image["width"], image["height"]
        write_json(root / annotations.format(split), content)
    study = root / "study.yaml"  # its own files, written into the folder, are no splits of the data set afterwards
    for _ in range(2):
        run_init(root, "-o", study, "--force")
    spec = spec_of(study)
    assert spec.name == "cells"
    assert spec.data.path(spec.data.images).resolve() == root / found
    dataset = load_dataset(spec.data)
    assert [len(split) for split in dataset.splits] == [12, 6]
    assert [tuple(split.sizes[0]) for split in dataset.splits] == list(sizes.values())


@pytest.mark.parametrize(
    ("images", "annotations", "found"),
    [
        ("images/default", "annotations/instances_default.json", "images/default"),  # CVAT
        ("data", "labels.json", "data"),  # FiftyOne
        ("images", "result.json", ""),  # Label Studio, whose names begin with images/
    ],
)
def test_a_folder_with_one_annotation_file_is_divided(
    images: str, annotations: str, found: str, tmp_path: Path
) -> None:
    names = names_of("x", 20)
    write_images(tmp_path / "data set" / images, names)
    content = coco([f"images/{name}" for name in names] if not found else names)
    write_json(tmp_path / "data set" / annotations, content)
    output = run_init(tmp_path / "data set", "-o", tmp_path / "study.yaml")
    assert "there is no validation split" in output
    spec = spec_of(tmp_path / "study.yaml")
    assert (spec.name, spec.data.path(spec.data.images).resolve()) == ("data-set", tmp_path / "data set" / found)


def test_images_in_two_folders_are_not_guessed(tmp_path: Path) -> None:
    names = names_of("x", 20)
    for folder in ("a", "b"):
        write_images(tmp_path / "data" / folder, names)
    write_json(tmp_path / "data" / "all.json", coco(names))
    with pytest.raises(DataError, match=r"are in .*/a and in .*/b") as error:
        run_init(tmp_path / "data", "-o", tmp_path / "study.yaml")
    assert "--images" in error.value.hint
    run_init(tmp_path / "data", "--images", tmp_path / "data" / "b", "-o", tmp_path / "study.yaml")
    assert spec_of(tmp_path / "study.yaml").data.images.name == "b"


def test_an_image_that_is_missing_is_named_in_the_folder_of_the_others(tmp_path: Path) -> None:
    names = names_of("x", 12)
    write_images(tmp_path / "data" / "pictures", names[1:])
    write_json(tmp_path / "data" / "all.json", coco(names))
    with pytest.raises(
        DataError, match=r"^\S*/all\.json: 1 of 12 image files are missing: \S*/data/pictures/x000\.jpg\n"
    ):
        run_init(tmp_path / "data", "-o", tmp_path / "study.yaml")


def test_an_image_that_is_cut_off_behind_its_header_is_named_before_anything_is_written(tmp_path: Path) -> None:
    names = [f"{i}.tif" for i in range(8)]
    (tmp_path / "data").mkdir()
    for name in names:
        Image.fromarray(np.full((64, 96), 3000, np.uint16)).save(tmp_path / "data" / name)
    data = (tmp_path / "data" / "0.tif").read_bytes()
    (tmp_path / "data" / "0.tif").write_bytes(data[:5000])
    write_json(tmp_path / "data" / "train.json", coco(names))
    with pytest.raises(DataError, match=r"0\.tif: cannot be decoded: image file is truncated"):
        run_init(tmp_path / "data", "-o", tmp_path / "out" / "study.yaml")
    assert not list((tmp_path / "out").iterdir())
