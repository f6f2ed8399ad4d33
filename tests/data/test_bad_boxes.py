"""Boxes outside their image, without area, there twice, or in other units: pointed out, refused or repaired."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.evaluation.cases import make_split
from tuner.config.errors import DataError
from tuner.data.bad_boxes import TOLERANCE, check_boxes
from tuner.data.coco import load_dataset, load_split


def test_fractions_of_the_image_are_no_pixels(folder):
    for row in folder.contents["train"]["annotations"]:
        row["bbox"] = [0.1, 0.2, 0.5, 0.3]
    folder.write()
    for policy in ("refuse", "repair"):
        with pytest.raises(DataError, match="all 3 boxes lie within one pixel") as error:
            load_split(folder.spec(on_bad_boxes=policy), "train")
        assert "Multiply x and width" in str(error.value)


def test_fractions_among_pixels_are_pointed_out(folder):
    rows = folder.contents["train"]["annotations"] = [
        {"id": i, "image_id": 5, "category_id": 3, "bbox": [0.5 - i / 1000, 0.5, 0.5 + (i > 2), 0.25]}
        for i in range(100)
    ]
    folder.write()
    assert not load_dataset(folder.spec()).warnings
    rows[50]["bbox"] = [0.1, 0.2, 0.3, 0.4]
    folder.write()
    (warning,) = load_dataset(folder.spec()).warnings
    assert "4 of 100 boxes of train lie within one pixel" in warning


def test_boxes_that_are_there_twice_are_pointed_out_and_repaired(folder):
    rows = folder.contents["val"]["annotations"]
    rows += [rows[0] | {"id": 8}, rows[2] | {"id": 9}, rows[2] | {"id": 10}]  # the first is a crowd, which counts once
    rows.append(rows[2] | {"id": 11, "category_id": 90})
    folder.contents["train"]["annotations"].append(rows[1] | {"id": 12, "category_id": 90})
    folder.write()
    dataset = load_dataset(folder.spec())
    (warning,) = dataset.warnings
    assert warning.startswith(
        "2 boxes of val are there twice, with the same image and class, first in val2.png: one of"
    )
    assert len(dataset.val.boxes) == 7
    repaired = load_dataset(folder.spec(on_bad_boxes="repair"))
    assert not repaired.warnings
    assert sorted(repaired.val.annotation_ids.tolist()) == [1, 2, 7, 8, 11]
    report = repaired.reports["val"]
    assert (report.doubled, report.dropped, report.clipped) == (2, 2, 0)
    assert "0 without area, 2 there twice; 0 clipped, 2 dropped\n  annotation 9 of val2.png: " in report.text()
    assert repaired.reports["train"].clean


def test_areas_of_zero_are_pointed_out(folder):
    for row in folder.contents["val"]["annotations"]:
        row["area"] = 0
    folder.write()
    (warning,) = load_dataset(folder.spec()).warnings
    assert warning.startswith("2 of 2 objects of val have `area` 0, and so count as small")


def test_boxes_that_were_turned_after_they_were_written_are_pointed_out(folder):
    for row, angle in zip(folder.contents["train"]["annotations"], (30.5, 180.0, 0.0), strict=True):
        row["attributes"] = {"occluded": False, "rotation": angle}
    folder.contents["val"]["annotations"][0]["attributes"] = {"rotation": "none"}
    folder.write()
    (warning,) = load_dataset(folder.spec()).warnings
    assert warning.startswith("1 of 3 boxes of train are rotated (`attributes.rotation`, as CVAT has it)")


def test_boxes_that_would_fit_as_corners_are_pointed_out(folder):
    for row, (x, y, width, height) in zip(
        folder.contents["train"]["annotations"], [(1, 2, 10, 5), (0, 0, 40, 30), (25, 5, 8, 20)], strict=True
    ):
        row["bbox"] = [x, y, x + width, y + height]
    folder.write()
    with pytest.raises(DataError, match=r"All would fit if `bbox` were \[x1, y1, x2, y2\]"):
        load_split(folder.spec(), "train")
    folder.contents["train"]["annotations"][0]["bbox"] = [20, 20, 5, 5]
    folder.write()
    with pytest.raises(DataError) as error:
        load_split(folder.spec(), "train")
    assert "would fit" not in str(error.value)


def test_repair_clips_and_drops_and_counts(folder):
    rows = folder.contents["train"]["annotations"]
    rows[0]["bbox"] = [-5, 20, 20, 20]  # clipped to [0, 20, 15, 10]
    rows[1]["bbox"] = [50, 5, 10, 10]  # outside altogether
    rows[2]["bbox"] = [5, 5, 0, 10]
    rows.append({"id": 8, "image_id": 15, "category_id": 3, "bbox": [1, 1, 39.25, 2], "area": 78.5, "iscrowd": 0})
    folder.write()
    split, report = load_split(folder.spec(on_bad_boxes="repair"), "train")
    assert (report.boxes, report.outside, report.without_area, report.clipped, report.dropped) == (4, 2, 1, 1, 2)
    assert len(report.examples) == 3
    assert "1 clipped, 2 dropped" in report.text()
    # A box over the edge by less than the tolerance stays as it is in the file.
    assert split.annotation_ids.tolist() == [8, 1]
    assert split.boxes.tolist() == [[1, 1, 39.25, 2], [0, 20, 15, 10]]
    assert split.areas.tolist() == [78.5, 20]
    assert split.offsets.tolist() == [0, 0, 1, 2]


def test_repair_that_leaves_no_box_is_refused(folder):
    for row in folder.contents["train"]["annotations"]:
        row["bbox"] = [100, 100, 5, 5]
    folder.write()
    with pytest.raises(DataError, match=r"none of the 3 boxes of train has an area inside its image\nCheck that"):
        load_split(folder.spec(on_bad_boxes="repair"), "train")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("bbox", [[1e308, 1, 1e308, 5], [0, 0, -1e308, 1e308], [1e200, 1e200, 1e200, 1e200]])
def test_boxes_near_the_largest_float_are_outside_like_any_other(folder, bbox):
    row = folder.contents["train"]["annotations"][1]
    row |= {"bbox": bbox, "area": None}
    folder.write()
    with pytest.raises(DataError, match=r"annotation 2 of train0\.png"):
        load_split(folder.spec(), "train")
    assert load_split(folder.spec(on_bad_boxes="repair"), "train")[1].dropped == 1
    del row["bbox"]
    row["segmentation"] = [[-1.7e308, 0, 1.7e308, 0, 0, 5]]
    folder.write()
    with pytest.raises(DataError, match=r"annotation 2 has bbox .*inf.*, expected four finite numbers"):
        load_split(folder.spec(), "train")


def one_on_each_image(boxes):
    count = len(boxes)
    split = make_split(range(count), np.zeros(count), boxes, images=count, classes=1)
    return replace(split, sizes=np.full((count, 2), (90, 60), np.int32))


coordinates = st.floats(-100, 200, allow_nan=False)


@given(arrays(np.float64, st.tuples(st.integers(0, 20), st.just(4)), elements=coordinates))
def test_repaired_boxes_lie_inside_and_good_boxes_stay(boxes):
    split = one_on_each_image(boxes)
    repaired, keep, report = check_boxes(split, "repair")
    assert report.dropped == (~keep).sum()
    assert report.clipped + report.dropped == report.outside + report.without_area
    kept = repaired[keep]
    assert (kept[:, 2:] > 0).all()
    assert (kept[:, :2] >= -TOLERANCE).all()
    assert (kept[:, :2] + kept[:, 2:] <= split.sizes[keep] + TOLERANCE + 1e-9).all()
    again, all_kept, clean = check_boxes(one_on_each_image(kept), "refuse")
    assert clean.clean
    assert all_kept.all()
    assert np.array_equal(again, kept)
    if report.clean:
        assert np.array_equal(repaired, boxes)
