"""The sweep against doing everything anew; the choice of thresholds."""

import dataclasses
import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluation.cases import raw_case
from tests.postprocess import plain
from tuner.config.errors import ConfigError
from tuner.evaluation.coco import CocoEvaluator
from tuner.postprocess.choice import FEW_BOXES, FOLDS, choose, cross_fit, few_boxes
from tuner.postprocess.curve import Criterion, Curve
from tuner.postprocess.matching import TruthIndex
from tuner.postprocess.nms import suppress
from tuner.postprocess.sweep import NMS_IOUS, best_operating_point, best_operating_points, nms_grid, sweep


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    boxes=st.integers(0, 20),
    detections=st.integers(0, 60),
    crowds=st.sampled_from([0.0, 0.3]),
    grid=st.sampled_from([0.0, 32.0]),
    score_steps=st.sampled_from([0, 6]),
    cap=st.sampled_from([5, 100]),
)
def test_equals_doing_everything_anew(seed, cap, **shape):
    split, raw = raw_case(seed, **shape)
    rows_of = functools.partial(sweep, raw, TruthIndex(split), max_detections=cap)
    for row in (*rows_of((0.3, 0.6, 1.0)), *rows_of((0.6,))):
        curve = row.hits.curve()
        assert curve.positives == (~split.crowd).sum()
        for confidence in [0.0, *np.unique(raw.scores).astype(float), 1.0]:
            right = wrong = 0
            for i in range(len(split)):
                rows = [p for p in range(raw.offsets[i], raw.offsets[i + 1]) if raw.scores[p] >= confidence]
                kept = plain.greedy(raw.boxes[rows], raw.scores[rows], raw.labels[rows], row.nms_iou)[:cap]
                rows = np.array(rows, dtype=np.int64)[kept]
                counts = plain.count(split, np.full(len(rows), i), raw.labels[rows], raw.boxes[rows], raw.scores[rows])
                right, wrong = right + counts[0], wrong + counts[1]
            assert curve.counts(confidence) == (right, wrong)
            point = curve.at(confidence)
            if point is None:
                assert curve.positives == 0
                continue
            assert point.recall == right / curve.positives
            assert point.f1 == pytest.approx(2 * right / (right + wrong + curve.positives))
        assert (np.diff(curve.thresholds) < 0).all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), confidence=st.sampled_from([0.1, 0.3, 0.5]))
def test_a_threshold_only_cuts_the_tail(seed, confidence):
    """Decision 4: NMS at threshold c is the part of NMS at threshold 0 that scores at least c."""
    _, raw = raw_case(seed, score_steps=10, grid=16.0)
    everything, part = suppress(raw, 0.5, max_detections=9), suppress(raw, 0.5, max_detections=9, confidence=confidence)
    above = everything.scores.astype(float) >= confidence
    np.testing.assert_array_equal(everything.boxes[above], part.boxes)
    np.testing.assert_array_equal(everything.image_index[above], part.image_index)


def test_one_class_and_some_images_alone():
    split, raw = raw_case(1)
    (row,) = sweep(raw, TruthIndex(split), (0.5,))
    whole = row.hits.curve()
    by_class = [row.hits.curve(label=k) for k in range(2)]
    assert sum(c.positives for c in by_class) == whole.positives
    assert sum(c.counts(0.3)[0] for c in by_class) == whole.counts(0.3)[0]
    first = np.array([True, True, False, False])
    halves = [row.hits.curve(images=first), row.hits.curve(images=~first)]
    assert [sum(c.counts(0.2)[j] for c in halves) for j in (0, 1)] == list(whole.counts(0.2))


@pytest.mark.parametrize("kind", ["greedy-agnostic", "diou", "soft-linear", "soft-gaussian", "wbf", "none"])
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), cap=st.sampled_from([5, 100]))
def test_every_kind_equals_suppressing_and_counting_anew(kind, seed, cap):
    split, raw = raw_case(seed, boxes=8, detections=20)
    evaluator = CocoEvaluator(split)
    rows = list(
        sweep(
            raw,
            evaluator.truth,
            (0.3, 0.6),
            kinds=("greedy", kind),
            max_detections=cap,
            score=lambda found: evaluator.evaluate(found).map,
        )
    )
    assert [r.nms for r in rows] == ["greedy"] * 2 + [kind] * (1 if kind == "none" else 2)
    for row in rows[2:]:
        whole = suppress(raw, row.nms_iou, kind=kind, max_detections=cap)
        assert row.score == evaluator.evaluate(whole).map
        curve = row.hits.curve()
        np.testing.assert_array_equal(curve.thresholds, np.unique(whole.scores)[::-1])
        for place, confidence in enumerate(curve.thresholds):
            found = suppress(raw, row.nms_iou, kind=kind, max_detections=cap, confidence=confidence)
            counts = plain.count(split, found.image_index, found.labels, found.boxes, found.scores)
            assert curve.counts(confidence) == counts
            numbers = np.diff(found.offsets) - np.diff(split.offsets)
            assert curve.count_error[place] == np.abs(numbers).mean()


def test_miscounts_of_one_class_and_some_images():
    split, raw = raw_case(6, detections=200)
    (row,) = sweep(raw, TruthIndex(split), (0.5,))
    found = suppress(raw, 0.5, max_detections=100)
    images = np.array([True, False, True, True])
    curve = row.hits.curve(images=images, label=1)
    for place, confidence in enumerate(curve.thresholds):
        shown = (found.labels == 1) & (found.scores >= confidence)
        counts = np.bincount(found.image_index[shown], minlength=4)
        true = np.bincount(split.image_index[split.labels == 1], minlength=4)
        assert curve.miscounted[place] == np.abs(counts - true)[images].sum()


def test_thresholds_of_classes():
    split, raw = raw_case(8, images=40, boxes=200, detections=2000)
    (row,) = sweep(raw, TruthIndex(split), (0.5,))
    assert not few_boxes(row.hits, split.classes)
    (chosen,) = choose([row.hits], [Criterion("f1")], per_class=True)
    assert chosen.by_class.tolist() == [row.hits.curve(label=k).best(Criterion("f1")) for k in range(2)]
    point = best_operating_points([row], ["f1"], classes=split.classes)["f1"]
    named = zip(split.classes, chosen.by_class.tolist(), strict=True)
    assert point.class_confidence == {name: value for name, value in named if value != point.confidence}
    assert point.confidence == row.hits.curve().best(Criterion("f1"))
    assert point.f1 > 0.9 * best_operating_point(row).f1


def test_thresholds_of_classes_with_few_boxes_are_drawn_to_the_common_one():
    split, raw = raw_case(9, images=40, boxes=60, detections=800, classes=3)
    split = dataclasses.replace(split, labels=np.where(split.labels == 2, 1, split.labels))
    (row,) = sweep(raw, TruthIndex(split), (0.5,))
    numbers = [int((split.labels == k).sum()) for k in range(3)]
    assert few_boxes(row.hits, split.classes) == {
        name: count for name, count in zip(split.classes, numbers, strict=True) if count < FEW_BOXES
    }
    (chosen,) = choose([row.hits], [Criterion("f1")], per_class=True)
    common = row.hits.curve().best(Criterion("f1"))
    own = row.hits.curve(label=0).best(Criterion("f1"))
    share = numbers[0] / FEW_BOXES
    assert chosen.by_class[0] == pytest.approx(share * own + (1 - share) * common)
    assert chosen.by_class[2] == common


@pytest.mark.parametrize("seed", range(20))
def test_the_threshold_of_one_class_is_the_common_one_to_the_last_digit(seed):
    split, raw = raw_case(seed, images=5, boxes=10, detections=30, classes=1)
    (row,) = sweep(raw, TruthIndex(split), (0.5,))
    (chosen,) = choose([row.hits], [Criterion("f1")], per_class=True)
    assert chosen.by_class.tolist() == [chosen.confidence]
    point = best_operating_points([row], ["f1"], classes=split.classes)["f1"]
    assert point == best_operating_point(row)
    assert not point.class_confidence


def test_the_suppression_is_chosen_with_the_threshold():
    split, raw = raw_case(10, images=30, boxes=150, detections=1500)
    rows = list(sweep(raw, TruthIndex(split), (0.3, 0.5, 0.7), kinds=("greedy", "soft-gaussian")))
    point, counting = best_operating_points(rows, ["f1", "count"]).values()
    best = max(rows, key=lambda row: row.hits.curve().f1.max())
    assert (point.nms, point.nms_iou) == (best.nms, best.nms_iou)
    assert point.f1 <= best.hits.curve().f1.max()
    assert point.f1_spread > 0
    assert counting.count_error >= min(row.hits.curve().count_error.min() for row in rows)


@pytest.mark.parametrize("per_class", [False, True])
def test_several_criteria_at_once_are_each_alone(per_class):
    split, raw = raw_case(11, images=20, boxes=100, detections=400)
    rows = list(sweep(raw, TruthIndex(split), (0.3, 0.5, 0.7)))
    classes = split.classes if per_class else None
    criteria = ("f1", "count", "recall@precision=0.8", "precision@recall=0.5", "precision@recall=1")
    together = best_operating_points(rows, criteria, classes=classes)
    assert together == {c: best_operating_points(rows, [c], classes=classes)[c] for c in criteria}
    assert len({point and point.confidence for point in together.values()}) > 3
    assert together["precision@recall=1"] is None


CURVE = Curve(
    np.array([0.9, 0.7, 0.5, 0.3]), np.array([3, 5, 7, 8]), np.array([0, 1, 3, 12]), 10, 4, np.array([7, 4, 2, 10])
)


@pytest.mark.parametrize(
    ("criterion", "confidence"),
    [
        ("f1", 0.5),
        ("count", 0.5),
        ("recall@precision=0.8", 0.7),
        ("recall@precision=1", 0.9),
        ("recall@precision=0", 0.3),
        ("precision@recall=0.8", 0.3),
        ("precision@recall=0.45", 0.7),
        ("precision@recall=0.9", None),
    ],
)
def test_criteria(criterion, confidence):
    assert CURVE.best(Criterion.parse(criterion)) == confidence


def test_of_equal_thresholds_the_highest():
    curve = Curve(np.array([0.9, 0.7]), np.array([0, 0]), np.array([1, 2]), 1, 1, np.array([0, 1]))
    assert curve.best(Criterion("f1")) == 0.9


@pytest.mark.parametrize("text", ["", "f2", "recall@precision=1.5", "recall@precision=", "precision@precision=0.5"])
def test_unknown_criteria_are_refused(text):
    with pytest.raises(ConfigError, match="is not known"):
        Criterion.parse(text)


def test_points_between_scores_and_outside():
    assert CURVE.counts(1.0) == (0, 0)
    assert CURVE.counts(0.6) == CURVE.counts(0.7) == (5, 1) == CURVE.counts(0.51)
    assert CURVE.counts(0.0) == (8, 12)
    assert CURVE.at(1.0).precision == 0
    assert dataclasses.replace(CURVE, positives=0).at(0.5) is None


def test_cross_fitting_judges_each_fold_at_the_threshold_of_the_others():
    split, raw = raw_case(2, images=20, boxes=80, detections=600)
    (row,) = sweep(raw, TruthIndex(split), (0.6,))
    (fitted,) = cross_fit([row.hits], [Criterion("f1")])
    fold = np.random.default_rng(0).permutation(20) % FOLDS
    right = wrong = 0
    confidences = [row.hits.curve(images=fold != f).best(Criterion("f1")) for f in range(FOLDS)]
    for f, confidence in enumerate(confidences):
        counts = row.hits.curve(images=fold == f).counts(confidence)
        right, wrong = right + counts[0], wrong + counts[1]
    assert fitted.pooled.confidence == np.mean(confidences)
    assert fitted.pooled.f1 == 2 * right / (right + wrong + 80)
    whole = row.hits.curve()
    assert fitted.pooled.f1 <= whole.f1.max()
    assert fitted.f1_spread > 0


def test_honest_figures_are_not_flattered_by_noise():
    """With scores that say nothing, the best F1 on the images that chose the threshold is too high on average."""
    flattered, honest = [], []
    for seed in range(30):
        split, raw = raw_case(seed, images=6, boxes=12, detections=40, near=0.5)
        raw = dataclasses.replace(raw, scores=np.random.default_rng(seed).random(40).astype(np.float32))
        (row,) = sweep(raw, TruthIndex(split), (0.9,))
        flattered.append(row.hits.curve().f1.max())
        honest.append(best_operating_point(row).f1)
    assert np.mean(honest) < np.mean(flattered)


def test_one_image_cannot_be_cross_fitted():
    split, raw = raw_case(3, images=1)
    (row,) = sweep(raw, TruthIndex(split), (0.6,))
    point = best_operating_point(row)
    assert point.f1_spread is None
    assert point.f1 == row.hits.curve().f1.max()


def test_grid_of_nms_values():
    assert NMS_IOUS == (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8)
    assert nms_grid(0.5, 0.5) == (0.5,)
    assert len(nms_grid(0.0, 1.0)) == 21
