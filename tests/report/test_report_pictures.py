"""Drawn boxes, chosen images and curves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tuner.data.coco import load_split
from tuner.data.scenes import generate
from tuner.models.predictions import Detections
from tuner.postprocess.apply import hits_of, point_of
from tuner.postprocess.matching import TruthIndex
from tuner.postprocess.operating_point import OperatingPoint
from tuner.report.evidence import example_picture
from tuner.report.learning_curves import Curve, draw_study_curves, draw_trial_curve
from tuner.report.pictures import choose_images, colour_of, draw_boxes, encode, side_by_side, write_picture

counts = st.integers(0, 6)


def test_a_box_is_drawn_where_it_is() -> None:
    image = np.full((60, 80, 3), 50, np.uint8)
    drawn = draw_boxes(image, np.array([[20, 30, 60, 50]], np.float32), np.array([1]), ["a", "b"])
    other = (drawn != image).any(axis=2)
    assert np.flatnonzero(other[40]).tolist() == [20, 59]
    assert np.flatnonzero(other[:, 50]).tolist() == [30, 49]
    assert tuple(drawn[49, 50]) == colour_of(1)
    assert (image == 50).all()


def test_all_sides_of_a_box_that_fills_the_image_are_drawn() -> None:
    image = np.full((60, 80, 3), 50, np.uint8)
    drawn = draw_boxes(image, np.array([[0, 0, 80, 60.0]]), np.array([1]), ["a", "b"]) != image
    assert drawn[30:, [0, -1]].all()
    assert drawn[-1].all()


def test_the_label_of_a_crowd_region_says_so() -> None:
    image = np.full((60, 200, 3), 50, np.uint8)
    box, labels = np.array([[10, 30, 30, 50.0]]), np.array([0])
    none, one = np.zeros(1, np.bool_), np.ones(1, np.bool_)
    plain = draw_boxes(image, box, labels, ["a"])
    assert (draw_boxes(image, box, labels, ["a"], crowd=none) == plain).all()
    assert (draw_boxes(image, box, labels, ["a"], crowd=one) == draw_boxes(image, box, labels, ["a (crowd)"])).all()


def test_crowd_regions_are_told_from_objects_beside_predictions(tmp_path: Path) -> None:
    split, _ = load_split(generate(tmp_path, train=1, val=1), "val")
    nothing = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), np.array([0, 0]))
    crowds = replace(split, crowd=np.ones_like(split.crowd))
    assert (side_by_side(split, nothing, [0]) != side_by_side(crowds, nothing, [0])).any()


@pytest.mark.parametrize("box", [[10, -30, 30, 0], [-30, 10, 0, 30], [10, 60, 30, 70], [80, 10, 90, 30]])
def test_a_box_outside_the_image_leaves_no_label_in_it(box: list[float]) -> None:
    image = np.full((60, 80, 3), 50, np.uint8)
    assert (draw_boxes(image, np.array([box], np.float64), np.array([0]), ["a"]) == image).all()


@pytest.mark.parametrize("x", [-20.0, 60.0, 299.6])
def test_a_label_is_moved_into_the_image(x: float) -> None:
    image = np.full((60, 300, 3), 50, np.uint8)
    names = ["a long name"]
    whole, moved = (draw_boxes(image, np.array([[at, 40, at + 25, 50]]), np.array([0]), names) for at in (100.0, x))
    counts = [int((drawn[:38] != image[:38]).any(axis=2).sum()) for drawn in (whole, moved)]
    assert counts[0] == counts[1] > 0


@given(
    hnp.arrays(np.int64, st.integers(1, 12), elements=counts),
    st.data(),
)
def test_chooses_the_worst_and_the_best_image(hits: np.ndarray, data: st.DataObject) -> None:
    more = hnp.arrays(np.int64, hits.shape, elements=counts)
    found, present = hits + data.draw(more), hits + data.draw(more)
    f1 = [
        2 * h / (f + p) if f + p else 1.0
        for h, f, p in zip(hits.tolist(), found.tolist(), present.tolist(), strict=True)
    ]
    picks = choose_images(hits, found, present)
    assert len(set(picks)) == len(picks) <= 3
    assert f1[picks[0]] == min(f1)
    assert max(f1[i] for i in picks) == max(f1)


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_draws_all_curves_of_a_study(tmp_path: Path, suffix: str) -> None:
    curves = [
        Curve(0, [1, 2, 3], [0.1, 0.2, 0.3], True),
        Curve(1, [1], [0.05], False),
        Curve(2, [1, 2, 3], [0.2, 0.3, 0.5], True),
        Curve(3, [], [], False),
    ]
    path = draw_study_curves(curves, tmp_path / f"curves{suffix}", best=2, default=0, title="cells")
    assert path.stat().st_size > 2000


def test_draws_a_study_without_curves(tmp_path: Path) -> None:
    assert draw_study_curves([], tmp_path / "none.png").exists()


def test_draws_a_curve_with_undefined_values(tmp_path: Path) -> None:
    assert draw_trial_curve([1, 2], {"mAP": [None, 0.5]}, [2.0, 1.0], tmp_path / "curve.png").exists()


def test_pictures_and_counts_honour_class_thresholds(tmp_path: Path) -> None:
    split, _ = load_split(generate(tmp_path, train=1, val=6, test=1, size=(64, 48), seed=2), "val")
    xyxy = split.boxes.copy()
    xyxy[:, 2:] += xyxy[:, :2]
    perfect = Detections(
        xyxy.astype(np.float32), np.full(len(xyxy), 0.5, np.float32), split.labels.copy(), split.offsets.copy()
    )
    hits = hits_of(perfect, TruthIndex(split))
    point = OperatingPoint(nms_iou=0.5, confidence=0.5, precision=1, recall=1, f1=1)
    reached = point_of(hits, point, split.classes)
    assert reached is not None
    assert (reached.precision, reached.recall, reached.f1) == (1.0, 1.0, 1.0)
    name = split.classes[int(split.labels[0])]
    strict = point.model_copy(update={"class_confidence": {name: 0.9}})
    reached = point_of(hits, strict, split.classes)
    assert reached is not None
    assert reached.recall == pytest.approx((split.labels != split.labels[0]).mean())
    whole, less = (example_picture(hits, perfect, p, split) for p in (point, strict))
    assert whole.dtype == np.uint8
    assert cv2.imdecode(np.frombuffer(encode(whole), np.uint8), cv2.IMREAD_COLOR).shape == whole.shape
    assert less.shape[1] == whole.shape[1]


@pytest.mark.parametrize(("length", "name"), [(65_500, "a.b.jpg"), (65_501, "a.b.png"), (80_000, "a.b.png")])
def test_a_picture_of_any_length_is_written(length: int, name: str, tmp_path: Path) -> None:
    for shape in ((1, length, 3), (length, 1, 3)):
        path = write_picture(np.full(shape, 90, np.uint8), tmp_path, "a.b")
        assert path.name == name
        assert cv2.imread(str(path)).shape == shape
