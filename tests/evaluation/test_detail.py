"""Rates against confidence, counts and confusion, against counts from the definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluation.cases import make_predictions, make_split, random_case
from tests.postprocess import plain
from tuner.evaluation.coco import IOU_THRESHOLDS, CocoEvaluator
from tuner.evaluation.confusion import confusion_matrix
from tuner.evaluation.counting import count_errors
from tuner.evaluation.detail import detail
from tuner.evaluation.pairing import paired_images
from tuner.evaluation.rates import tally
from tuner.models.predictions import Detections
from tuner.postprocess.curve import Hits
from tuner.postprocess.matching import TruthIndex
from tuner.postprocess.operating_point import OperatingPoint

shapes = {
    "seed": st.integers(0, 2**32 - 1),
    "boxes": st.integers(0, 12),
    "detections": st.integers(0, 40),
    "crowds": st.sampled_from([0.0, 0.3]),
    "grid": st.sampled_from([0.0, 32.0]),
}


def case(seed, **shape):
    return random_case(np.random.default_rng(seed), images=4, classes=3, score_steps=10, **shape)


@settings(max_examples=25, deadline=None)
@given(**shapes)
def test_counts_at_every_threshold_are_those_of_matching_anew(**shape):
    split, found = case(**shape)
    counted = tally(TruthIndex(split), found, [0.0, 0.3, 0.35, 1.0])
    for c, confidence in enumerate(counted.confidences):
        for t in (0, 5):
            for k in range(3):
                rows = (found.labels == k) & (found.scores.astype(float) >= confidence)
                # In the order in which COCO serves ties: by ascending image id.
                images = found.image_index[rows]
                order = np.argsort(split.image_ids[images], kind="stable")
                right, wrong = plain.count(
                    split,
                    images[order],
                    found.labels[rows][order],
                    found.boxes[rows][order],
                    found.scores[rows][order],
                    IOU_THRESHOLDS[t],
                )
                assert (counted.right[t, c, k], counted.found[t, c, k]) == (right, right + wrong)
    assert counted.positives.tolist() == np.bincount(split.labels[~split.crowd], minlength=3).tolist()


def test_micro_macro_and_undefined():
    # Class 0: two boxes, one found; class 1: one box, found with IoU 0.8; class 2: no box, one detection.
    split = make_split([0, 0, 1], [0, 0, 1], [[0, 0, 10, 10], [50, 50, 10, 10], [0, 0, 10, 10]], images=2, classes=3)
    found = make_predictions(
        Detections,
        [0, 1, 1],
        [0, 1, 2],
        [[0, 0, 10, 10], [0, 0, 8, 10], [30, 30, 40, 40]],
        [0.9, 0.5, 0.4],
        images=2,
    )
    counted = tally(TruthIndex(split), found, [0.0, 0.45])
    micro, macro, each = counted.micro(), counted.macro(), counted.by_class()
    np.testing.assert_allclose(micro.precision[0], [2 / 3, 1.0])
    np.testing.assert_allclose(micro.recall[0], [2 / 3, 2 / 3])
    np.testing.assert_allclose(micro.f1[0], [2 / 3, 4 / 5])
    np.testing.assert_allclose(macro.recall[0], [0.75, 0.75])
    np.testing.assert_allclose(macro.precision[0], [1.0, 1.0])
    assert np.isnan(each.f1[:, :, 2]).all()
    # Class 1 is found at the IoU thresholds 0.5 … 0.8, of 0.5 … 0.95.
    np.testing.assert_allclose(each.f1[:, 0, 1].mean(), 0.7)
    nothing = tally(TruthIndex(make_split([], [], [], images=1, classes=2)), _none(1), [0.5])
    assert np.isnan(nothing.macro().f1).all()


def _none(images):
    return make_predictions(Detections, [], [], [], [], images=images)


@settings(max_examples=25, deadline=None)
@given(**shapes)
def test_pairs_are_those_of_coco(**shape):
    split, found = case(**shape)
    truth = TruthIndex(split)
    matches = truth.match(found, [0.5])
    right, ignored = np.zeros(len(found.scores), bool), np.zeros(len(found.scores), bool)
    right[matches.order] = matches.taken.astype(bool)
    ignored[matches.order] = matches.ignored.astype(bool)
    for image in paired_images(split, found):
        np.testing.assert_array_equal(image.match >= 0, right[image.detections])
        np.testing.assert_array_equal(image.ignored, ignored[image.detections])
        hit = np.flatnonzero(image.match >= 0)
        assert len(set(image.match[hit].tolist())) == len(hit)
        for row in hit:
            box = split.boxes[image.boxes[image.match[row]]]
            corners = np.concatenate([box[:2], box[:2] + box[2:]])
            assert image.iou[row, image.match[row]] == pytest.approx(
                plain.iou(found.boxes[image.detections[row]], corners)
            )
    matrix = confusion_matrix(split, found)
    assert np.trace(matrix) >= right.sum()
    np.testing.assert_array_equal(matrix[:3].sum(axis=1), truth.positives.sum(axis=0))
    np.testing.assert_array_equal(matrix[:, :3].sum(axis=0), np.bincount(found.labels[~ignored], minlength=3))
    assert matrix[3, 3] == 0


def test_confusion():
    # A box found twice, once as another class; a box taken for class 1; a missed box; a phantom.
    split = make_split([0, 0, 1], [0, 0, 1], [[0, 0, 10, 10], [50, 50, 10, 10], [0, 0, 10, 10]], images=3, classes=2)
    found = make_predictions(
        Detections,
        [0, 0, 0, 2],
        [1, 0, 1, 0],
        [[0, 0, 10, 10], [0, 0, 10, 10], [50, 50, 60, 60], [1, 1, 5, 5]],
        [0.9, 0.8, 0.7, 0.6],
        images=3,
    )
    assert confusion_matrix(split, found).tolist() == [[1, 1, 0], [0, 0, 1], [1, 1, 0]]


def test_counts_of_each_image():
    split = make_split([0, 0, 1], [0, 1, 1], np.tile([0.0, 0, 10, 10], (3, 1)), images=4, classes=2)
    found = make_predictions(
        Detections,
        [0, 1, 1, 1, 3, 3],
        [0, 1, 1, 1, 0, 0],
        np.tile([0, 0, 10, 10], (6, 1)),
        [0.9, 0.9, 0.8, 0.7, 0.6, 0.2],
        images=4,
    )
    truth = TruthIndex(split)
    hits = Hits.of(truth.match(found, [0.5]), truth)
    errors = count_errors(hits, hits.scores >= 0.5, split.classes)
    # Counted 1, 3, 0, 1; true 2, 1, 0, 0.
    assert (errors.mae, errors.bias) == (1.0, 0.5)
    assert errors.class_mae == {"class 0": 0.25, "class 1": 0.75}
    assert errors.class_bias == {"class 0": 0.25, "class 1": 0.25}
    assert (errors.negative_images, errors.negatives_with_detections, errors.false_positives_on_negatives) == (2, 1, 1)


def test_detail_agrees_with_its_parts_and_serialises():
    split, found = random_case(np.random.default_rng(3), images=6, classes=3, boxes=30, detections=80)
    point = OperatingPoint(
        nms_iou=0.5, confidence=0.4, class_confidence={"class 1": 0.6}, precision=0.5, recall=0.5, f1=0.5
    )
    whole = detail(split, CocoEvaluator(split).truth, found, point)
    at = whole.curves.confidence.index(0.4)
    assert whole.classes["class 0"] == whole.curves.classes["class 0"][at]
    assert whole.classes["class 1"] != whole.curves.classes["class 1"][at]
    assert whole.micro.recall == pytest.approx(np.trace(_coco_diagonal(split, found, point)) / len(split.boxes))
    assert type(whole).model_validate_json(whole.model_dump_json()) == whole


def _coco_diagonal(split, found, point):
    limits = np.array([0.4, 0.6, 0.4])
    counted = tally(TruthIndex(split), found.subset(found.scores >= limits[found.labels]), [0.0])
    return np.diag(counted.right[0, 0])
