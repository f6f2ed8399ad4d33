from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import get_model
from typer.testing import CliRunner

from tests.cli.init_command import run_init, spec_of
from tests.coco_files import coco, names_of, write_images, write_json
from tuner.cli.app import app
from tuner.config.errors import ConfigError, DataError, TunerError, WeightsError
from tuner.config.load import base_config
from tuner.data.coco import load_dataset
from tuner.data.survey import survey
from tuner.studies.proposal.propose import propose
from tuner.studies.search.plan import expected_epochs
from tuner.studies.search.promotion import first_rung

BCCD = Path(__file__).parents[2].parent / "shared" / "data" / "bccd"


@pytest.fixture
def one_file(tmp_path: Path) -> Path:
    names = names_of("image ü ", 40)
    write_images(tmp_path / "pictures", names)
    return write_json(tmp_path / "labels.json", coco(names))


@pytest.mark.parametrize(
    ("present", "line", "first", "last", "count"),
    [
        (40, "Of 40 classes the 15 most frequent and the 15 rarest in train", 39, 0, 30),
        (20, "Of 40 classes those that train has", 19, 0, 20),
    ],
)
def test_of_many_classes_the_most_frequent_and_the_rarest_are_printed(
    tmp_path: Path, present: int, line: str, first: int, last: int, count: int
) -> None:
    write_images(tmp_path / "images", ["a.jpg", "b.jpg"])
    content = coco(["a.jpg", "b.jpg"])
    content["categories"] = [{"id": k + 1, "name": f"class-{k}"} for k in range(40)]
    row = {"image_id": 1, "area": 600, "iscrowd": 0}
    boxes = [k for k in range(present) for _ in range(1 + k // 4)]
    rows = [row | {"id": n + 1, "category_id": k + 1, "bbox": [n % 70, n // 70, 20, 30]} for n, k in enumerate(boxes)]
    for split, known in (("train", rows), ("val", rows[:1])):
        images = [image for image in content["images"] if (image["id"] == 1) == (split == "train")]
        there = [one | {"image_id": images[0]["id"]} for one in known]
        write_json(tmp_path / "annotations" / f"{split}.json", content | {"images": images, "annotations": there})
    lines = run_init(tmp_path, "-o", tmp_path / "study.yaml").splitlines()
    assert line in lines
    listed = [cells[1].strip() for row_ in lines if len(cells := row_.split("│")) > 2 and "class-" in cells[1]]
    assert len(listed) == count
    counts = [1 + int(name.removeprefix("class-")) // 4 for name in listed]
    assert counts == sorted(counts, reverse=True)
    assert (counts[0], counts[-1]) == (1 + first // 4, 1 + last // 4)


def test_one_annotation_file_is_divided(one_file: Path, tmp_path: Path) -> None:
    study = tmp_path / "out" / "cells.yaml"
    output = run_init("--images", tmp_path / "pictures", "--annotations", one_file, "-o", study)
    assert "8 of the 40 images of labels.json were put aside" in output
    assert f"tuner run {study}" in output.replace("\n", "")
    dataset = load_dataset(spec_of(study).data)
    assert (len(dataset.train), len(dataset.val), dataset.test) == (32, 8, None)
    assert not set(dataset.train.file_names) & set(dataset.val.file_names)
    assert json.loads((study.parent / "cells.val.json").read_text())["info"] == {"kept": True}


def test_the_next_command_can_be_pasted(one_file: Path, tmp_path: Path) -> None:
    study = tmp_path / "my cells; rm.yaml"
    output = run_init("--images", tmp_path / "pictures", "--annotations", one_file, "-o", study)
    assert shlex.split(output.replace("\n", "").partition("Next: ")[2])[:3] == ["tuner", "run", str(study)]


def test_images_whose_exif_data_turn_them_unseen_are_named(one_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    arguments = ["--images", folder, "--annotations", one_file, "-o", tmp_path / "study.yaml", "--force"]
    assert "EXIF" not in run_init(*arguments)
    for name, orientation in zip(names_of("image ü ", 3), (1, 3, 4), strict=True):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.new("RGB", (96, 64)).save(folder / name, exif=exif)
    output = run_init(*arguments).replace("\n", " ")
    assert "2 images are turned or mirrored by their EXIF data" in output
    assert "image ü 001.jpg" in output
    assert "image ü 000.jpg" not in output


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that nothing listens on, for every download."""
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")


def test_a_study_of_another_detector(one_file: Path, tmp_path: Path) -> None:
    study = tmp_path / "study.yaml"
    arguments = ["--images", tmp_path / "pictures", "--annotations", one_file, "-o", study]
    with pytest.raises(ConfigError, match="no detector 'ssdlite'"):
        run_init(*arguments, "--model", "ssdlite")
    assert "its default learning rate is 0.0002" in run_init(*arguments, "--model", "ssdlite320-mobilenet")
    config = base_config(spec_of(study))
    assert (config.model, config.learning_rate) == ("ssdlite320-mobilenet", 2e-4)
    assert "learning_rate:" not in "".join(line for line in study.read_text().splitlines() if not line.startswith("#"))


def test_a_study_of_another_image_size(one_file: Path, tmp_path: Path) -> None:
    study = tmp_path / "study.yaml"
    run_init("--images", tmp_path / "pictures", "--annotations", one_file, "-o", study, "--image-size", "128")
    assert base_config(spec_of(study)).image_size == 128


def test_a_study_that_starts_from_pretrained_weights(one_file: Path, tmp_path: Path) -> None:
    study, weights = tmp_path / "study.yaml", tmp_path / "trunk.pth"
    arguments = ["--images", tmp_path / "pictures", "--annotations", one_file, "-o", study, "--force"]
    with pytest.raises(WeightsError, match="there is no file"):
        run_init(*arguments, "--weights", weights)
    with pytest.raises(ConfigError, match="dense-tiny has no pretrained weights"):
        run_init(*arguments, "--weights", "default", "--model", "dense-tiny")
    torch.save({"conv1.weight": torch.zeros(3)}, weights)
    run_init(*arguments, "--weights", weights)
    config = base_config(spec_of(study))
    assert (config.model, config.weights) == ("dense-shufflenet", str(weights))
    run_init(*arguments, "--weights", "default", "--model", "dense-medium")
    config = base_config(spec_of(study))
    assert (config.model, config.weights) == ("dense-medium", "default")


def test_weights_that_nobody_asked_for_are_taken_where_they_can_be_had(
    one_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    study = tmp_path / "study.yaml"
    arguments = ["--images", tmp_path / "pictures", "--annotations", one_file, "-o", study, "--force"]
    output = run_init(*arguments, "--model", "dense-small").replace("\n", " ")
    assert "weights none: from scratch, as weights: default needs https://" in output
    assert str(tmp_path / "checkpoints" / "resnet18-f37072fd.pth") in output
    torch.save(get_model("resnet18", weights=None).state_dict(), tmp_path / "checkpoints" / "resnet18-f37072fd.pth")
    assert "weights default: a backbone trained on ImageNet" in run_init(*arguments, "--model", "dense-small")
    assert base_config(spec_of(study)).weights == "default"
    assert "weights none: as asked for" in run_init(*arguments, "--model", "dense-small", "--weights", "none")
    assert "weights none: from scratch; a backbone" in run_init(*arguments, "--device", "cpu")


def test_classes_of_one_image_each_leave_something_to_validate_on(tmp_path: Path) -> None:
    names = names_of("x", 20)
    content = coco(names)
    content["categories"] = [{"id": i, "name": f"class {i}"} for i in range(len(content["annotations"]))]
    for i, annotation in enumerate(content["annotations"]):
        annotation["category_id"] = i
    write_images(tmp_path / "images", names)
    run_init("--images", tmp_path / "images", "--annotations", write_json(tmp_path / "all.json", content),
             "-o", tmp_path / "study.yaml")  # fmt: skip
    val = load_dataset(spec_of(tmp_path / "study.yaml").data).val
    with_objects = len({annotation["image_id"] for annotation in content["annotations"]})
    assert len(set(val.image_index.tolist())) == round(0.2 * with_objects)


def test_one_image_with_objects_cannot_be_divided(tmp_path: Path) -> None:
    names = names_of("x", 5)
    content = coco(names)
    content["annotations"] = content["annotations"][:1]
    write_images(tmp_path / "images", names)
    annotations = write_json(tmp_path / "all.json", content)
    with pytest.raises(DataError, match=r"of 5 images only x000\.jpg shows objects"):
        run_init("--images", tmp_path / "images", "--annotations", annotations, "-o", tmp_path / "study.yaml")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.json", "images"]


def test_files_are_overwritten_by_force_alone(one_file: Path, tmp_path: Path) -> None:
    study = tmp_path / "study.yaml"
    arguments = ["--images", tmp_path / "pictures", "--annotations", one_file, "-o", study]
    run_init(*arguments)
    before = study.read_text()
    study.write_text("mine")
    with pytest.raises(ConfigError, match="is there already"):
        run_init(*arguments)
    assert study.read_text() == "mine"
    study.unlink()
    with pytest.raises(ConfigError, match=r"study\.train\.json"):  # the annotation files are not overwritten either
        run_init(*arguments)
    run_init(*arguments, "--force")
    assert study.read_text() == before


def test_a_failure_leaves_the_files_of_the_study_before(one_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["--images", tmp_path / "pictures", "--annotations", one_file, "-o", out / "study.yaml"]
    run_init(*arguments)
    before = {path: path.read_bytes() for path in out.iterdir()}
    assert {path.name for path in before} == {"study.yaml", "study.train.json", "study.val.json"}
    Image.new("RGB", (50, 50)).save(tmp_path / "pictures" / "image ü 003.jpg")
    with pytest.raises(DataError, match="image ü 003"):
        run_init(*arguments, "--force")
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_categories_that_differ_are_named_with_the_files_that_would_have_been_written(tmp_path: Path) -> None:
    for folder in ("train", "valid"):
        write_images(tmp_path / "data" / folder, names_of(folder, 6))
        content = coco(names_of(folder, 6))
        content["categories"][0]["name"] = folder
        write_json(tmp_path / "data" / folder / "_annotations.coco.json", content)
    with pytest.raises(DataError) as error:
        run_init(tmp_path / "data", "-o", tmp_path / "study.yaml")
    assert f"of {tmp_path / 'study.val.json'} differ from those of {tmp_path / 'study.train.json'}" in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_what_is_read_is_never_overwritten(one_file: Path, tmp_path: Path) -> None:
    train = one_file.rename(tmp_path / "study.train.json")
    before = train.read_bytes()
    for output in (tmp_path / "study.yaml", train):
        with pytest.raises(ConfigError, match=r"study\.train\.json would be overwritten, but is read"):
            run_init("--images", tmp_path / "pictures", "--annotations", train, "-o", output, "--force")
    assert train.read_bytes() == before


@pytest.mark.parametrize("option", ["--val", "--test"])
def test_one_file_cannot_be_trained_on_and_put_aside(option: str, one_file: Path, tmp_path: Path) -> None:
    other = tmp_path / "pictures" / ".." / one_file.name
    arguments = ["--images", tmp_path / "pictures", "--annotations", one_file, "-o", tmp_path / "study.yaml"]
    for same in (one_file, other):
        with pytest.raises(ConfigError, match=f"--annotations and {option} name the same file"):
            run_init(*arguments, option, same)


@pytest.mark.parametrize("output", [".", "/", "..", "pictures"])
def test_a_study_file_is_no_folder(output: str, one_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(one_file.parent)
    with pytest.raises(ConfigError, match="is a folder, not a file") as error:
        run_init("--images", "pictures", "--annotations", one_file, "-o", output)
    assert str(Path(output) / "study.yaml") in error.value.hint


def test_bad_boxes_are_reported_and_the_study_says_how_they_are_repaired(tmp_path: Path) -> None:
    names = names_of("a", 20)
    write_images(tmp_path / "images", names)
    content = coco(names)
    content["annotations"][0]["bbox"] = [80, 10, 30, 10]
    content["annotations"][1]["bbox"] = [8, 10, 0, 10]
    train = write_json(tmp_path / "train.json", content)
    write_json(tmp_path / "val.json", coco(names_of("a", 20)))
    output = run_init("--images", tmp_path / "images", "--annotations", train, "-o", tmp_path / "s.yaml")
    assert "1 outside the image, 1 without area; 1 clipped, 1 dropped" in output
    text = (tmp_path / "s.yaml").read_text()
    assert "# train: 1 boxes outside their image, 1 without area. They are clipped" in text
    assert spec_of(tmp_path / "s.yaml").data.on_bad_boxes == "repair"


@pytest.mark.parametrize("policy", ["repair", "refuse"])
def test_boxes_that_are_there_twice_are_left_out_unless_asked_otherwise(policy: str, tmp_path: Path) -> None:
    write_images(tmp_path / "images", names_of("a", 20))
    content = coco(names_of("a", 20))
    content["annotations"].append({**content["annotations"][3], "id": 99})
    train = write_json(tmp_path / "train.json", content)
    write_json(tmp_path / "val.json", coco(names_of("a", 20)))
    arguments = ["--images", tmp_path / "images", "--annotations", train, "-o", tmp_path / "s.yaml"]
    output = run_init(*arguments, *(["--on-bad-boxes", "refuse"] if policy == "refuse" else [])).replace("\n", " ")
    assert "0 outside the image, 0 without area, 1 there twice" in output
    assert ("note: 1 boxes of train are there twice" in output) is (policy == "refuse")
    assert spec_of(tmp_path / "s.yaml").data.on_bad_boxes == policy


def test_boxes_that_would_all_fit_as_corners_are_not_repaired_unasked(tmp_path: Path) -> None:
    names = names_of("a", 20)
    write_images(tmp_path / "images", names)
    content = coco(names)
    for annotation in content["annotations"]:
        annotation["bbox"] = [50, 20, 90, 60]
    train = write_json(tmp_path / "all.json", content)
    arguments = ["--images", tmp_path / "images", "--annotations", train, "-o", tmp_path / "s.yaml"]
    with pytest.raises(
        DataError, match=r"train: of \d+ boxes (.*\n)*  All would fit if `bbox` were \[x1, y1, x2, y2\]"
    ):
        run_init(*arguments)
    with pytest.raises(DataError) as refused:
        run_init(*arguments)
    assert "clipped" not in str(refused.value)  # nothing was
    with pytest.raises(DataError, match="outside"):
        run_init(*arguments, "--on-bad-boxes", "refuse")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.json", "images"]
    run_init(*arguments, "--on-bad-boxes", "repair")
    assert spec_of(tmp_path / "s.yaml").data.on_bad_boxes == "repair"


def test_objects_too_small_for_the_image_size_are_counted(tmp_path: Path) -> None:
    names, size = names_of("a", 8), (4000, 300)
    write_images(tmp_path / "images", names, size)
    content = coco(names, size=size)
    arguments = ["--images", tmp_path / "images", "--annotations", tmp_path / "all.json", "-o", tmp_path / "s.yaml"]
    for annotation in content["annotations"]:
        annotation["bbox"] = [10, 5, 20, 9]
    write_json(tmp_path / "all.json", content)
    with pytest.raises(DataError, match=r"all \d+ boxes of train are below 1 px in width or height at image size 416"):
        run_init(*arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.json", "images"]
    for annotation in content["annotations"][1:]:
        annotation["bbox"] = [10, 5, 90, 90]
    write_json(tmp_path / "all.json", content)
    output = run_init(*arguments).replace("\n", " ")
    assert re.search(r"note: 1 of \d+ boxes of train are below 1 px in width or height at image size 416", output)


def test_crowded_images_and_narrow_ranges_are_noted(tmp_path: Path) -> None:
    names = [f"a{i}.png" for i in range(8)]
    (tmp_path / "images").mkdir()
    for name in names:
        cv2.imwrite(str(tmp_path / "images" / name), np.full((64, 96), 4000, np.uint16))
    content = coco(names)
    content["annotations"] = [
        {**content["annotations"][0], "id": i + 1, "image_id": i % 8 + 1, "bbox": [i // 8 / 10, 5, 20, 30]}
        for i in range(8 * 120)
    ]
    write_json(tmp_path / "train.json", content)
    write_json(tmp_path / "val.json", content)
    study = tmp_path / "s.yaml"
    output = run_init(tmp_path, "-o", study).replace("\n", " ")
    assert "max_detections 200" in output
    assert "holds 120 objects of class common: COCO's mAP" in output
    assert "the largest value in 8 of them is 4000" in output
    text = study.read_text()
    study.write_text(text.replace("max_detections: 200", "max_detections: 90"))
    dry = CliRunner().invoke(app, ["run", str(study), "--dry-run", "--storage", f"sqlite:///{tmp_path}/t.db"])
    assert "8 of 8 images of val hold more objects than the 90 detections" in dry.output.replace("\n", " ")


def test_a_class_without_a_box_is_noted_and_one_class_has_no_balance(tmp_path: Path) -> None:
    names = names_of("a", 4)
    write_images(tmp_path / "images", names)
    content = coco(names)
    used = content["annotations"][0]["category_id"]
    content["annotations"] = [
        {**content["annotations"][0], "id": i + 1, "image_id": image["id"]} for i, image in enumerate(content["images"])
    ]
    kept = next(category for category in content["categories"] if category["id"] == used)
    content["categories"] = [kept, {"id": 99, "name": "placeholder"}]  # as Roboflow writes one
    annotations = write_json(tmp_path / "all.json", content)
    output = run_init("--images", tmp_path / "images", "--annotations", annotations, "-o", tmp_path / "s.yaml")
    assert "note: 1 of the 2 classes has no box in any split: 'placeholder'; " in output
    assert "balance" not in output
    assert "note: objects of val: just 1, images with objects: 1. Which trial is best is mostly luck" in output
    assert "1 of the 4 images of all.json was put aside" in output


def test_errors_of_a_user_are_messages(one_file: Path, tmp_path: Path) -> None:
    images = tmp_path / "pictures"
    empty = tmp_path / "empty"
    empty.mkdir()
    study = tmp_path / "study.yaml"
    cases: list[tuple[list[object], str]] = [
        (["--images", tmp_path / "none", "--annotations", one_file], "the folder .*none does not exist"),
        ([], "no data set is named"),
        (["--images", images], "no data set is named"),
        ([one_file], "labels.json is a file, not the folder of a data set"),
        ([tmp_path / "none"], "the folder .*none does not exist"),
        (["--images", images, "--annotations", tmp_path / "no.json"], "no.json does not exist"),
        (["--images", images, "--annotations", one_file, "--name", "a b"], "cannot be the name of a study"),
        (["--images", empty, "--annotations", one_file], "40 of 40 image files are missing"),
        (["--images", images, "--annotations", images], "no annotation file in"),
    ]
    for arguments, message in cases:
        with pytest.raises(TunerError, match=message):
            run_init(*arguments, "-o", study)
        assert not study.exists()
        assert list(tmp_path.glob("study.*")) == []


@pytest.mark.skipif(not BCCD.is_dir(), reason="the bccd data set is not beside the checkout")
def test_the_study_suggested_for_bccd(tmp_path: Path) -> None:
    train = BCCD / "annotations" / "train.json"
    output = run_init("--images", BCCD / "images", "--annotations", train, "-o", tmp_path / "study.yaml")
    spec = spec_of(tmp_path / "study.yaml")
    config = base_config(spec)
    assert (spec.name, config.model, config.image_size, config.batch_size) == ("bccd", "dense-tiny", 384, 4)
    assert config.anchors == "kmeans-iou-balanced"
    assert 18 <= config.epochs <= 26
    assert first_rung(spec.pruner, config.epochs) == 6  # 52 steps an epoch
    assert expected_epochs(spec.pruner, config.epochs, 30) < 0.5 * 30 * config.epochs
    assert spec.data.test is not None
    for text in ("205", "2,804", "Platelets", "640 x 480", "11.4 times"):
        assert text in output
    dataset = load_dataset(spec.data)
    other = propose(dataset, survey(dataset), cuda=True, slots=1, model="retinanet-resnet50", weights="default")
    assert other.defaults["anchors"].value == "default"
    assert not other.pruner  # pretrained detectors can be compared early
