from __future__ import annotations

from pathlib import Path

import pytest

from tests.coco_files import coco, names_of, write_images, write_json
from tuner.config.study import DataSpec
from tuner.data.coco import load_dataset
from tuner.data.doubled import nearly_doubled_notes


@pytest.mark.parametrize(
    ("change", "noted"),
    [({}, True), ({"bbox": [14, 5, 20, 30]}, False), ({"category_id": 4}, False), ({"iscrowd": 1}, False)],
)
def test_objects_that_were_drawn_twice_are_pointed_out(tmp_path: Path, change: dict, noted: bool) -> None:
    """Each common object is drawn a second time, a pixel beside the first: elsewhere, as another, or as a crowd."""
    names = names_of("x", 12)
    write_images(tmp_path / "images", names)
    content = coco(names)
    once = [row for row in content["annotations"] if row["category_id"] == 1]
    content["annotations"] = list(once)
    for row in once:
        x, *rest = row["bbox"]
        again = {"id": 100 + row["id"], "bbox": [x + 1, *rest]}
        content["annotations"].append({**row, **again, **change})
    write_json(tmp_path / "all.json", content)
    val = load_dataset(DataSpec(root=tmp_path, train="all.json", val="all.json")).val
    notes = nearly_doubled_notes(val)
    assert len(notes) == noted
    if noted:
        assert notes[0].startswith(f"{len(once)} of {2 * len(once)} objects of val overlap one before them")
        assert "first in x000.jpg" in notes[0]
