from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.coco_files import coco, names_of, write_images, write_json
from tuner.config.load import base_config, load_study_spec
from tuner.data.coco import load_dataset
from tuner.data.survey import survey
from tuner.space.load import load_space
from tuner.studies.propose import propose


def _study(folder: Path) -> Path:
    path = folder / "any.yaml"
    path.write_text("name: x\ndata: {train: all.json, val: all.json}\n")
    return path


def test_small_objects_ask_for_larger_images_where_a_gpu_allows(tmp_path: Path) -> None:
    names = names_of("l", 16)
    write_images(tmp_path / "images", names, (1600, 1200))
    write_json(tmp_path / "all.json", coco(names, size=(1600, 1200)))
    dataset = load_dataset(load_study_spec(_study(tmp_path)).data)
    numbers = survey(dataset)
    for images in (2_000, 118_287):  # their third epochs come after 300 steps
        many = replace(numbers, splits=(replace(numbers.train, images=images), *numbers.splits[1:]))
        assert propose(dataset, many, cuda=True, slots=1).pruner == {}
        assert propose(dataset, many, cuda=False, slots=2).pruner == {}
    on_gpu = propose(dataset, numbers, cuda=True, slots=1).defaults
    on_cpu = propose(dataset, numbers, cuda=False, slots=2).defaults
    assert on_gpu["image_size"].value > 640
    assert numbers.small_object * on_gpu["image_size"].value >= 16
    assert on_cpu["image_size"].value == 416
    assert "would show them, on a GPU" in on_cpu["image_size"].reason
    assert on_cpu["batch_size"].value == 2
    for proposal in (on_gpu, on_cpu):  # the proposed default config lies in the ready-made space
        config = base_config(
            load_study_spec(_study(tmp_path), {f"defaults.{name}": choice.value for name, choice in proposal.items()})
        )
        load_space("default").default_config(config)
