from __future__ import annotations

from pathlib import Path

import pytest

from tests.coco_files import coco, names_of, write_images, write_json
from tuner.config.errors import DataError
from tuner.config.study import DataSpec
from tuner.data.coco import load_dataset
from tuner.data.find_splits import divide, role_of, split_files


@pytest.mark.parametrize(
    ("path", "role"),
    [
        ("train.json", "train"),
        ("instances_val2017.json", "val"),
        ("valid/_annotations.coco.json", "val"),
        ("x/my-test.json", "test"),
        ("constraint.json", None),
        ("my-test-data/all.json", None),
        ("train2017/all.json", "train"),
        ("test/train.json", "train"),
    ],
)
def test_roles_by_name(path: str, role: str | None) -> None:
    assert role_of(Path(path)) == role


def test_names_that_say_nothing_are_refused(tmp_path: Path) -> None:
    a, b, val = (write_json(tmp_path / name, {}) for name in ("a.json", "b.json", "val.json"))
    with pytest.raises(DataError, match=r"cannot tell which split this is: .*a\.json, .*b\.json"):
        split_files([a, b])
    with pytest.raises(DataError, match="both look like the val split"):
        split_files([a, val, write_json(tmp_path / "val_2.json", {})])
    assert split_files([a], b)[0] == {"train": a, "val": b}
    assert split_files([a, val])[0] == {"train": a, "val": val}


def test_dividing_is_stratified_and_blind_to_the_order_of_images(tmp_path: Path) -> None:
    names = names_of("x", 60)
    write_images(tmp_path / "images", names)
    sides = []
    for order in (1, -1):
        content = coco(names)
        content["images"] = content["images"][::order]
        write_json(tmp_path / "all.json", content)
        split = load_dataset(DataSpec(root=tmp_path, train="all.json", val="all.json")).train
        train, val = divide(split)
        assert sorted([*train.tolist(), *val.tolist()]) == list(range(60))
        holds_rare = {name for name, n in zip(split.image_index, split.labels, strict=True) if n == 1}
        assert len(holds_rare & set(val.tolist())) == round(0.2 * len(holds_rare))
        assert len(val) == 12
        sides.append({split.file_names[i] for i in val})
    assert sides[0] == sides[1]
