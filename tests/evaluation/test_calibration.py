"""Calibration against judging every threshold anew."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluation.cases import make_predictions, make_split, random_case
from tuner.evaluation.calibration import GRID, calibrate, map_by_confidence
from tuner.evaluation.coco import CocoEvaluator
from tuner.evaluation.results import suppressed_at
from tuner.models.predictions import RawPredictions
from tuner.postprocess.curve import Criterion
from tuner.postprocess.nms import suppress
from tuner.postprocess.sweep import NMS_IOUS


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    boxes=st.integers(0, 40),
    detections=st.integers(0, 150),
    crowds=st.sampled_from([0.0, 0.3]),
    score_steps=st.sampled_from([0, 5]),
)
def test_map_at_each_threshold_equals_evaluating_what_is_left(seed, **shape):
    split, found = random_case(np.random.default_rng(seed), images=4, classes=3, **shape)
    evaluator = CocoEvaluator(split)
    got = map_by_confidence(evaluator, found, GRID)
    for value, confidence in zip(got, GRID, strict=True):
        want = evaluator.evaluate(found.subset(found.scores.astype(float) >= confidence)).map
        assert np.isnan(value) if want is None else value == pytest.approx(want, abs=1e-12)


def test_points_and_maps():
    split, raw = random_case(
        np.random.default_rng(3), images=30, classes=2, boxes=150, detections=1500, kind=RawPredictions
    )
    evaluator = CocoEvaluator(split)
    found = calibrate(evaluator, raw, kinds=("greedy", "diou"))
    assert found.map_grid.shape == found.f1_grid.shape == (2 * len(NMS_IOUS), len(GRID))
    whole = suppress(raw, NMS_IOUS[-1], kind="diou")
    assert found.rows[-1].score == pytest.approx(evaluator.evaluate(whole).map, abs=1e-12)
    point = found.points["f1"]
    row = next(r for r in found.rows if (r.nms, r.nms_iou) == (point.nms, point.nms_iou))
    assert row.hits.curve().at(point.confidence).f1 == max(r.hits.curve().f1.max() for r in found.rows)
    limited = found.points["recall@precision=0.9"]
    reached = [r.hits.curve().best(Criterion.parse("recall@precision=0.9")) for r in found.rows]
    assert (limited is None) == (set(reached) == {None})


def test_a_limit_that_is_not_reached_on_a_part_of_the_images_is_said():
    boxes = [[10, 10, 50, 50]] * 100
    split = make_split(range(100), [0] * 100, boxes, images=100, classes=1)
    found = np.arange(10, 100)  # a tenth of the boxes is missed, and not of each part of the images the same share
    corners = [[10, 10, 60, 60]] * len(found)
    raw = make_predictions(RawPredictions, found, 0 * found, corners, np.linspace(0.5, 0.9, len(found)), images=100)
    told = calibrate(CocoEvaluator(split), raw, criteria=("f1", "precision@recall=0.9"))
    assert told.points["f1"].f1_spread is not None
    assert (told.points["precision@recall=0.9"].recall, told.points["precision@recall=0.9"].f1_spread) == (0.9, None)
    (warning,) = told.warnings
    assert warning.startswith("precision@recall=0.9: cannot be judged on other images")
    assert "the limit is not reached on a part of them" in warning


def test_classes_with_few_boxes_are_one_sentence_however_many_they_are():
    classes = 60
    labels = list(range(1, classes)) * 2  # the first class has none
    images, boxes = list(range(len(labels))), [[10, 10, 50, 50]] * len(labels)
    split = make_split(images, labels, boxes, images=len(labels), classes=classes)
    corners = [[10, 10, 60, 60]] * len(labels)
    scores = np.linspace(0.5, 0.9, len(labels))
    raw = make_predictions(RawPredictions, images, labels, corners, scores, images=len(labels))
    told = calibrate(CocoEvaluator(split), raw, criteria=("f1",), per_class=True).warnings
    few, none = told[:2]
    assert few.startswith("classes with fewer than 50 boxes have thresholds drawn towards the common one: ")
    assert few.endswith("(2) and 54 more")
    assert none.startswith("classes without boxes take the common threshold: ")
    assert len(told) == 2


def test_nothing_to_find_is_undefined():
    split = make_split([], [], [], images=2, classes=1)
    raw = make_predictions(RawPredictions, [0], [0], [[0, 0, 9, 9]], [0.5], images=2)
    found = calibrate(CocoEvaluator(split), raw)
    assert not any(found.points.values())
    assert np.isnan(found.map_grid).all()
    assert np.isnan(found.f1_grid).all()
    assert found.rows[0].score is None


def test_suppressed_predictions_are_told_from_raw_ones():
    _, raw = random_case(
        np.random.default_rng(5), images=20, classes=2, boxes=100, detections=3000, kind=RawPredictions, noise=0.05
    )
    assert suppressed_at(raw) is None
    found = suppress(raw, 0.5)
    assert suppressed_at(RawPredictions(found.boxes, found.scores, found.labels, found.offsets)) == 0.5
