from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.coco_files import coco, names_of, write_images, write_json
from tuner.config.errors import DataError
from tuner.config.load import base_config, load_study_spec
from tuner.data.coco import Dataset, load_dataset
from tuner.data.survey import Survey, survey
from tuner.space.load import load_space
from tuner.studies.proposal.propose import propose
from tuner.studies.proposal.study_file import study_file


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A study file of 16 large images with small objects."""
    names = names_of("l", 16)
    write_images(tmp_path / "images", names, (1600, 1200))
    write_json(tmp_path / "all.json", coco(names, size=(1600, 1200)))
    path = tmp_path / "any.yaml"
    path.write_text("name: x\ndata: {train: all.json, val: all.json}\n")
    return path


@pytest.fixture
def dataset(study: Path) -> Dataset:
    return load_dataset(load_study_spec(study).data)


def with_train(numbers: Survey, **changes: object) -> Survey:
    """Numbers of another training split."""
    return replace(numbers, splits=(replace(numbers.train, **changes), *numbers.splits[1:]))


def test_small_objects_ask_for_larger_images_where_a_gpu_allows(study: Path, dataset: Dataset) -> None:
    numbers = survey(dataset)
    on_gpu = propose(dataset, numbers, cuda=True, slots=1).defaults
    on_cpu = propose(dataset, numbers, cuda=False, slots=2).defaults
    assert on_gpu["image_size"].value > 640
    assert numbers.small_object * on_gpu["image_size"].value >= 16
    assert on_cpu["image_size"].value == 416
    assert "would show them, on a GPU" in on_cpu["image_size"].reason
    assert on_cpu["batch_size"].value == 2
    for proposal in (on_gpu, on_cpu):  # the proposed default config lies in the ready-made space
        config = base_config(
            load_study_spec(study, {f"defaults.{name}": choice.value for name, choice in proposal.items()})
        )
        load_space("default").default_config(config)


def test_the_rest_is_laid_out_for_the_image_size_that_was_asked_for(study: Path, dataset: Dataset) -> None:
    many = with_train(survey(dataset), images=20_000)
    small, large = (propose(dataset, many, cuda=True, slots=1, image_size=size).defaults for size in (330, 1600))
    assert (small["image_size"].value, large["image_size"].value) == (330, 1600)
    assert small["image_size"].reason.startswith("as asked for; the smallest tenth of the objects is below 5 px")
    assert small["batch_size"].value > large["batch_size"].value
    with pytest.raises(DataError, match="at image size 32"):
        propose(dataset, many, cuda=True, slots=1, image_size=32)


def test_thumbnails_beside_the_images_that_hold_the_objects_ask_for_no_small_ones(study: Path) -> None:
    content = json.loads((study.parent / "all.json").read_text())
    thumbnails = names_of("t", 20)
    write_images(study.parent / "images", thumbnails)
    content["images"] += [{**image, "id": 100 + image["id"]} for image in coco(thumbnails)["images"]]
    write_json(study.parent / "all.json", content)
    dataset = load_dataset(load_study_spec(study).data)
    for cuda, size in ((False, 416), (True, 1056)):
        assert propose(dataset, survey(dataset), cuda=cuda, slots=1).defaults["image_size"].value == size


def test_objects_without_a_size_are_laid_out_for(study: Path) -> None:
    content = json.loads((study.parent / "all.json").read_text())
    for annotation in content["annotations"][::3]:
        annotation |= {"bbox": [10, 10, 1e-200, 1e-200], "area": 0}
    write_json(study.parent / "all.json", content)
    dataset = load_dataset(load_study_spec(study).data)
    for cuda, size in ((False, 416), (True, 1280)):
        assert propose(dataset, survey(dataset), cuda=cuda, slots=1).defaults["image_size"].value == size


def test_objects_that_no_image_size_here_shows_are_for_tiles(study: Path) -> None:
    content = json.loads((study.parent / "all.json").read_text())
    for annotation in content["annotations"]:
        annotation |= {"bbox": [10, 10, 2, 2], "area": 4}
    write_json(study.parent / "all.json", content)
    dataset = load_dataset(load_study_spec(study).data)
    with pytest.raises(DataError, match="below 1 px in width or height at image size 416") as error:
        propose(dataset, survey(dataset), cuda=False, slots=1)
    assert error.value.hint.startswith("Cut the images into tiles")


@pytest.mark.parametrize("images", [2_000, 118_287])
def test_where_three_epochs_have_many_steps_the_usual_rungs_suit(dataset: Dataset, images: int) -> None:
    many = with_train(survey(dataset), images=images)
    assert propose(dataset, many, cuda=True, slots=1).pruner == {}
    assert propose(dataset, many, cuda=False, slots=2).pruner == {}


def test_the_fewest_epochs_of_many_images_are_not_said_to_be_what_detectors_need(dataset: Dataset) -> None:
    many = with_train(survey(dataset), images=118_287)
    epochs = propose(dataset, many, cuda=True, slots=1).defaults["epochs"]
    assert epochs.value == 12
    assert epochs.reason.startswith("about 177430 optimiser steps, more than the 3000 that are usual")


@pytest.mark.parametrize(
    ("boxes", "rate"), [(4, 1e-3), (100, 1e-3), (400, 2e-3), (1600, 4e-3), (6400, 8e-3), (10**6, 8e-3)]
)
def test_the_learning_rate_grows_with_the_boxes_that_a_step_sees(dataset: Dataset, boxes: int, rate: float) -> None:
    numbers = with_train(survey(dataset), images=400, class_boxes=(boxes, 0))
    defaults = propose(dataset, numbers, cuda=False, slots=2).defaults
    assert defaults["batch_size"].value == 4
    assert defaults["learning_rate"].value == rate
    larger = propose(dataset, numbers, cuda=False, slots=2, model="dense-small").defaults
    assert larger["learning_rate"].value == min(rate, 4e-3)
    torchvision = propose(dataset, numbers, cuda=False, slots=2, model="ssdlite320-mobilenet").defaults
    assert "learning_rate" not in torchvision


@pytest.mark.parametrize(("images", "steps"), [(40, 150), (200, 150), (20_000, None)])
def test_the_warm_up_has_many_steps_where_an_epoch_has_few(dataset: Dataset, images: int, steps: int | None) -> None:
    numbers = with_train(survey(dataset), images=images)
    defaults = propose(dataset, numbers, cuda=False, slots=2).defaults
    assert ("warmup_steps" in defaults) == (steps is not None)
    assert steps is None or defaults["warmup_steps"].value == steps
    torchvision = propose(dataset, numbers, cuda=False, slots=2, model="ssdlite320-mobilenet").defaults
    assert "warmup_steps" not in torchvision


@pytest.mark.parametrize("images", [100, 200, 1_000, 20_000])
def test_what_a_gpu_is_proposed_lies_in_the_larger_space_too(study: Path, dataset: Dataset, images: int) -> None:
    defaults = propose(dataset, with_train(survey(dataset), images=images), cuda=True, slots=1).defaults
    values = {f"defaults.{name}": choice.value for name, choice in defaults.items()}
    load_space("detection").default_config(base_config(load_study_spec(study, values)))


@pytest.mark.parametrize(("cuda", "target"), [(False, 1600), (True, 3000)])
@pytest.mark.parametrize("images", [4, 20, 60, 400])
def test_small_data_sets_have_as_many_steps_as_others(dataset: Dataset, cuda: bool, target: int, images: int) -> None:
    few = replace(with_train(survey(dataset), images=images, class_boxes=(images, 0)), small_object=0.2)
    proposal = propose(dataset, few, cuda=cuda, slots=2)
    epochs = proposal.defaults["epochs"]
    steps = epochs.value * images / proposal.defaults["batch_size"].value
    assert epochs.value == 400 or target <= steps < 1.1 * target + images
    assert ("instead of the" in epochs.reason) == (steps < target)
    if proposal.pruner:
        assert 250 <= proposal.pruner["first_rung"].value * steps <= 330
    assert proposal.hours is None or proposal.hours < 4


def test_the_hours_of_a_small_study_count_what_an_epoch_takes_besides_its_images(dataset: Dataset) -> None:
    numbers = survey(dataset)
    hours = [
        propose(dataset, replace(with_train(numbers, images=images), small_object=0.2), cuda=False, slots=1).hours
        for images in (4, 8)  # 400 epochs each, of half as many images and as many
    ]
    assert hours[0] is not None
    assert hours[1] is not None
    assert 400 * 9 * 0.1 / 3600 < hours[0] < hours[1] < 1.5 * hours[0]


@pytest.mark.parametrize(("objects", "kept"), [(66, None), (67, 200), (100, 200), (134, 300), (268, 500)])
def test_as_many_detections_are_kept_as_the_fullest_image_needs(study: Path, objects: int, kept: int | None) -> None:
    content = json.loads((study.parent / "all.json").read_text())
    content["annotations"] = [{**content["annotations"][0], "id": i + 1} for i in range(objects)]
    write_json(study.parent / "all.json", content)
    dataset = load_dataset(load_study_spec(study).data)
    found = propose(dataset, survey(dataset), cuda=False, slots=1).defaults.get("max_detections")
    assert (found and found.value) == kept
    assert found is None or f"one holds {objects} objects" in found.reason


def test_classes_that_differ_by_their_side_are_not_flipped(study: Path) -> None:
    names = {"turn_left": {"augment.horizontal_flip"}, "u-turn": set()}
    for name, expected in names.items():
        content = json.loads((study.parent / "all.json").read_text())
        content["categories"][0]["name"], content["categories"][1]["name"] = name, "TurnRight"
        write_json(study.parent / "all.json", content)
        dataset = load_dataset(load_study_spec(study).data)
        proposal = propose(dataset, survey(dataset), cuda=False, slots=1)
        assert set(proposal.defaults) & {"augment.horizontal_flip"} == expected
        text = study_file("x", load_study_spec(study).data, {}, proposal, folder=study.parent, device="cpu")
        written = study.with_name("written.yaml")
        written.write_text(text)
        assert base_config(load_study_spec(written)).augment.horizontal_flip == (0 if expected else 0.5)
        assert ("flipped left-right" in text) != bool(expected)
