from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.coco_files import coco, names_of, write_images, write_json
from tuner.config.study import DataSpec
from tuner.data.coco import load_dataset
from tuner.data.crowded import crowded_notes, most_objects
from tuner.data.split import Split


def crowded(folder: Path, counts: list[int], *, categories: tuple[int, ...] = (1,), iscrowd: int = 0) -> Split:
    """A split whose images hold so many objects, of the categories in turn."""
    names = names_of("x", len(counts))
    write_images(folder / "images", names)
    content = coco(names)
    content["annotations"] = [
        {"id": 1000 * i + k + 1, "image_id": i + 1, "category_id": categories[k % len(categories)],
         "bbox": [k % 80, 5, 9, 9], "area": 81, "iscrowd": iscrowd if k else 0}
        for i, count in enumerate(counts)
        for k in range(count)
    ]  # fmt: skip
    write_json(folder / "all.json", content)
    return load_dataset(DataSpec(root=folder, train="all.json", val="all.json")).train


def test_images_with_more_objects_than_are_kept_are_counted_and_the_fullest_is_named(tmp_path: Path) -> None:
    split = crowded(tmp_path, [3, 7, 5, 1], categories=(1, 4))
    assert most_objects([split]) == 7
    assert crowded_notes([split], 7, "raise it") == []
    (note,) = crowded_notes([split], 4, "raise it")
    assert "2 of 4 images of train hold more objects than the 4 detections" in note
    assert "x001.jpg 7" in note
    assert note.endswith("; raise it")


def test_a_class_of_which_coco_does_not_look_at_all_is_told(tmp_path: Path) -> None:
    assert crowded_notes([crowded(tmp_path / "two", [150, 2], categories=(1, 4))], 300, "") == []
    (note,) = crowded_notes([crowded(tmp_path / "one", [101, 2])], 300, "")
    assert note.startswith("x000.jpg of train holds 101 objects of class common: COCO's mAP looks at the best 100")


@pytest.mark.parametrize("counts", [[0, 1], [120, 1]])
def test_crowd_regions_are_no_objects(tmp_path: Path, counts: list[int]) -> None:
    split = crowded(tmp_path, counts, iscrowd=1)
    assert most_objects([split]) == 1
    assert crowded_notes([split], 1, "") == []


def test_many_images_and_classes_take_no_table_of_both(tmp_path: Path) -> None:
    """As LVIS has them: 100,000 images and 1,200 classes would take a gigabyte."""
    small = crowded(tmp_path, [3])
    images, classes = 100_000, 1_200
    split = replace(
        small,
        file_names=small.file_names * images,
        classes=small.classes * classes,
        offsets=np.concatenate([np.zeros(images, np.int64), [3]]),
        labels=np.array([7, 1_100, 1_100]),
    )
    tracemalloc.start()
    try:
        assert most_objects([split]) == 3
        assert len(crowded_notes([split], 2, "")) == 1
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()
