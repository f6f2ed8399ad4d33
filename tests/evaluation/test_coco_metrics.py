"""`CocoEvaluator` against pycocotools."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluation.cases import make_predictions, make_split, random_case
from tuner.config.errors import DataError
from tuner.evaluation import oracle
from tuner.evaluation.coco import CocoEvaluator
from tuner.models.predictions import Detections


def assert_same(split, detections):
    rest = {"operating_point", "criteria", "cost"}
    ours = CocoEvaluator(split).evaluate(detections).model_dump(exclude=rest)
    theirs = oracle.evaluate(split, detections).model_dump(exclude=rest)
    flat = [({**m, **m["class_map"]}) for m in (ours, theirs)]
    for name in flat[0]:
        if name == "class_map":
            continue
        a, b = flat[0][name], flat[1][name]
        assert (a is None) == (b is None), (name, a, b)
        assert a is None or abs(a - b) <= 1e-9, (name, a, b)
    return ours


@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    images=st.integers(1, 5),
    classes=st.integers(1, 4),
    boxes=st.integers(0, 40),
    detections=st.integers(0, 300),
    near=st.sampled_from([0.0, 0.5, 1.0]),
    crowds=st.sampled_from([0.0, 0.2, 1.0]),
    odd_areas=st.sampled_from([0.0, 0.5]),
    grid=st.sampled_from([0.0, 16.0, 32.0]),
    score_steps=st.sampled_from([0, 1, 5]),
)
def test_equals_pycocotools(seed, **shape):
    split, detections = random_case(np.random.default_rng(seed), **shape)
    assert_same(split, detections)


def test_equals_pycocotools_with_thousands_of_boxes_in_an_image():
    split, detections = random_case(
        np.random.default_rng(1), images=1, classes=2, boxes=2500, detections=4000, crowds=0.05, score_steps=20
    )
    assert_same(split, detections)


def test_equals_pycocotools_on_real_boxes(bccd_val):
    rng = np.random.default_rng(2)
    count = len(bccd_val.boxes)
    chosen = rng.integers(count, size=87 * 60)
    size = np.tile(bccd_val.boxes[chosen, 2:], 2)
    xyxy = bccd_val.boxes[chosen] + np.concatenate([np.zeros((len(chosen), 2)), bccd_val.boxes[chosen, :2]], axis=1)
    xyxy += rng.normal(0, 0.1, size=size.shape) * size
    xyxy[:, 2:] = np.maximum(xyxy[:, 2:], xyxy[:, :2] + 1)
    detections = make_predictions(
        Detections,
        bccd_val.image_index[chosen],
        bccd_val.labels[chosen],
        xyxy,
        rng.random(len(chosen)),
        images=len(bccd_val),
    )
    metrics = assert_same(bccd_val, detections)
    assert 0 < metrics["map"] < 1


def test_perfect_detections_score_one():
    split = make_split([0, 0, 1], [0, 1, 1], [[5, 5, 20, 20], [50, 50, 60, 60], [9, 9, 200, 100]], images=3, classes=3)
    detections = make_predictions(
        Detections, [0, 0, 1], [0, 1, 1], [[5, 5, 25, 25], [50, 50, 110, 110], [9, 9, 209, 109]], [1, 1, 1], images=3
    )
    metrics = CocoEvaluator(split).evaluate(detections)
    assert metrics.map == pytest.approx(1) == metrics.ar100
    assert metrics.class_map == {"class 0": pytest.approx(1), "class 1": pytest.approx(1), "class 2": None}


def test_nothing_to_find_is_undefined_not_zero():
    split = make_split([], [], [], images=2, classes=1)
    detections = make_predictions(Detections, [0], [0], [[0, 0, 9, 9]], [0.5], images=2)
    metrics = assert_same(split, detections)
    assert {v for k, v in metrics.items() if k != "class_map"} == {None}
    assert metrics["class_map"] == {"class 0": None}


def test_an_annotation_with_id_0_is_one_like_any_other():
    split = make_split([0], [0], [[5, 5, 20, 20]], images=1, classes=1)
    assert split.annotation_ids[0] == 0
    detections = make_predictions(Detections, [0], [0], [[5, 5, 25, 25]], [0.5], images=1)
    assert assert_same(split, detections)["map"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": np.array([np.nan], dtype=np.float32)}, "NaN or infinite"),
        ({"boxes": np.array([[0, 0, np.inf, 9]], dtype=np.float32)}, "1 of 1 predictions"),
        ({"labels": np.array([1])}, "label outside 0 … 0"),
        ({"offsets": np.array([0, 1, 1])}, "2 images, but the split has 1"),
    ],
)
def test_wrong_detections_are_refused(change, message):
    split = make_split([0], [0], [[5, 5, 20, 20]], images=1, classes=1)
    good = {
        "boxes": np.array([[0, 0, 9, 9]], dtype=np.float32),
        "scores": np.array([0.5], dtype=np.float32),
        "labels": np.array([0]),
        "offsets": np.array([0, 1]),
    }
    with pytest.raises(DataError, match=message):
        CocoEvaluator(split).evaluate(Detections(**(good | change)))
