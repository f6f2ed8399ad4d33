"""The sweep against doing everything anew; the choice of thresholds; the judgement of a trial."""

import dataclasses
import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluation.cases import make_predictions, make_split, random_case
from tests.postprocess import plain
from tuner.config.errors import ConfigError
from tuner.config.objective import Objective
from tuner.config.trial import WHOLE, Tiles, TrialConfig
from tuner.evaluation.coco import CocoEvaluator
from tuner.evaluation.judge import judge
from tuner.evaluation.named import objective_value
from tuner.models.predictions import RawPredictions
from tuner.postprocess.choice import FEW_BOXES, choose, cross_fit, few_boxes
from tuner.postprocess.curve import Criterion, Curve
from tuner.postprocess.matching import TruthIndex
from tuner.postprocess.nms import suppress
from tuner.postprocess.sweep import NMS_IOUS, best_operating_point, nms_grid, sweep
from tuner.postprocess.swept import Swept


def case(seed, **shape):
    options = {"images": 4, "classes": 2, "boxes": 15, "detections": 90} | shape
    return random_case(np.random.default_rng(seed), kind=RawPredictions, **options)


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
    split, raw = case(seed, **shape)
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
    _, raw = case(seed, score_steps=10, grid=16.0)
    everything, part = suppress(raw, 0.5, max_detections=9), suppress(raw, 0.5, max_detections=9, confidence=confidence)
    above = everything.scores.astype(float) >= confidence
    np.testing.assert_array_equal(everything.boxes[above], part.boxes)
    np.testing.assert_array_equal(everything.image_index[above], part.image_index)


def test_one_class_and_some_images_alone():
    split, raw = case(1)
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
    split, raw = case(seed, boxes=8, detections=20)
    evaluator = CocoEvaluator(split)
    rows = sweep(
        raw,
        evaluator.truth,
        (0.3, 0.6),
        kinds=("greedy", kind),
        max_detections=cap,
        score=lambda found: evaluator.evaluate(found).map,
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
    split, raw = case(6, detections=200)
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
    split, raw = case(8, images=40, boxes=200, detections=2000)
    (row,) = sweep(raw, TruthIndex(split), (0.5,))
    assert not few_boxes(row.hits, split.classes)
    chosen = choose([row.hits], Criterion("f1"), per_class=True)
    assert chosen.by_class.tolist() == [row.hits.curve(label=k).best(Criterion("f1")) for k in range(2)]
    point = best_operating_point(row, classes=split.classes)
    named = zip(split.classes, chosen.by_class.tolist(), strict=True)
    assert point.class_confidence == {name: value for name, value in named if value != point.confidence}
    assert point.confidence == row.hits.curve().best(Criterion("f1"))
    assert point.f1 > 0.9 * best_operating_point(row).f1


def test_thresholds_of_classes_with_few_boxes_are_drawn_to_the_common_one():
    split, raw = case(9, images=40, boxes=60, detections=800, classes=3)
    split = dataclasses.replace(split, labels=np.where(split.labels == 2, 1, split.labels))
    (row,) = sweep(raw, TruthIndex(split), (0.5,))
    numbers = [int((split.labels == k).sum()) for k in range(3)]
    assert few_boxes(row.hits, split.classes) == {
        name: count for name, count in zip(split.classes, numbers, strict=True) if count < FEW_BOXES
    }
    chosen = choose([row.hits], Criterion("f1"), per_class=True)
    common = row.hits.curve().best(Criterion("f1"))
    own = row.hits.curve(label=0).best(Criterion("f1"))
    share = numbers[0] / FEW_BOXES
    assert chosen.by_class[0] == pytest.approx(share * own + (1 - share) * common)
    assert chosen.by_class[2] == common


def test_the_suppression_is_chosen_with_the_threshold():
    split, raw = case(10, images=30, boxes=150, detections=1500)
    rows = sweep(raw, TruthIndex(split), (0.3, 0.5, 0.7), kinds=("greedy", "soft-gaussian"))
    point = best_operating_point(rows)
    best = max(rows, key=lambda row: row.hits.curve().f1.max())
    assert (point.nms, point.nms_iou) == (best.nms, best.nms_iou)
    assert point.f1 <= best.hits.curve().f1.max()
    assert point.f1_spread > 0
    counting = best_operating_point(rows, "count")
    assert counting.count_error >= min(row.hits.curve().count_error.min() for row in rows)


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
    split, raw = case(2, images=20, boxes=80, detections=600)
    (row,) = sweep(raw, TruthIndex(split), (0.6,))
    fitted = cross_fit([row.hits], Criterion("f1"), folds=4)
    fold = np.random.default_rng(0).permutation(20) % 4
    right = wrong = 0
    for f, confidence in enumerate(fitted.confidences):
        assert confidence == row.hits.curve(images=fold != f).best(Criterion("f1"))
        counts = row.hits.curve(images=fold == f).counts(confidence)
        right, wrong = right + counts[0], wrong + counts[1]
    assert fitted.pooled.f1 == 2 * right / (right + wrong + 80)
    whole = row.hits.curve()
    assert fitted.pooled.f1 <= whole.f1.max()
    assert fitted.f1_spread > 0


def test_honest_figures_are_not_flattered_by_noise():
    """With scores that say nothing, the best F1 on the images that chose the threshold is too high on average."""
    flattered, honest = [], []
    for seed in range(30):
        split, raw = case(seed, images=6, boxes=12, detections=40, near=0.5)
        raw = dataclasses.replace(raw, scores=np.random.default_rng(seed).random(40).astype(np.float32))
        (row,) = sweep(raw, TruthIndex(split), (0.9,))
        flattered.append(row.hits.curve().f1.max())
        honest.append(best_operating_point(row).f1)
    assert np.mean(honest) < np.mean(flattered)


def test_one_image_cannot_be_cross_fitted():
    split, raw = case(3, images=1)
    (row,) = sweep(raw, TruthIndex(split), (0.6,))
    point = best_operating_point(row)
    assert point.f1_spread is None
    assert point.f1 == row.hits.curve().f1.max()


def test_of_equal_suppressions_the_preferred_nms_iou():
    split = make_split([0], [0], [[0, 0, 50, 50]], images=2, classes=1)
    raw = make_predictions(RawPredictions, [0, 1], [0, 0], [[0, 0, 50, 50], [9, 9, 50, 50]], [0.9, 0.1], images=2)
    for prefer in (0.35, 0.65):
        config = CONFIG.model_copy(update={"nms_iou": prefer})
        assert judge(CocoEvaluator(split), [(WHOLE, raw)], config, Swept()).metrics.operating_point.nms_iou == prefer


CONFIG = TrialConfig(nms_iou=0.45, confidence=0.3, max_detections=50)


def test_judgement_with_everything_swept():
    split, raw = case(5, images=12, boxes=60, detections=500)
    evaluator = CocoEvaluator(split)
    judgement = judge(evaluator, [(WHOLE, raw)], CONFIG, Swept(nms_iou=(0.3, 0.8), confidence=(0.0, 1.0)))
    point = judgement.metrics.operating_point
    every = [evaluator.evaluate(suppress(raw, r.nms_iou, max_detections=50)) for r in judgement.rows]
    assert judgement.metrics.map == max(m.map for m in every)
    assert judgement.metrics.model_copy(update=dict.fromkeys(("operating_point", "count_mae", "count_bias"))) in every
    assert point.confidence in raw.scores
    assert point.criterion == "f1"
    assert judgement.curve.at(point.confidence).f1 == judgement.curve.f1.max()
    assert 0 < point.f1 < 1


def test_judgement_over_tiles_and_kinds_of_nms():
    """The best of judging each alone; where two are equal, the first."""
    split, whole = case(5, images=6, boxes=30, detections=100)
    _, other = case(5, images=6, boxes=30, detections=200)
    tiles = Tiles(size=64)
    for raws in ((other, whole), (whole, whole)):
        seen = list(zip((WHOLE, tiles), raws, strict=True))
        every = Swept(nms=("soft-gaussian", "greedy", "diou"))
        evaluator = CocoEvaluator(split)
        found = judge(evaluator, iter(seen), CONFIG, every)
        alone = [judge(evaluator, [one], CONFIG, Swept(nms=(kind,))) for one in seen for kind in every.nms]
        assert len(found.rows) == 2 * 3 * len(NMS_IOUS)
        assert found.metrics.map == max(one.metrics.map for one in alone)
        point = found.metrics.operating_point
        assert found.raw is dict(seen)[point.tiles]
        want = suppress(found.raw, point.nms_iou, kind=point.nms, max_detections=50)
        assert evaluator.evaluate(want).map == found.metrics.map
    assert point.tiles == WHOLE
    given = judge(
        evaluator, [(tiles, other)], CONFIG.model_copy(update={"nms": "wbf"}), Swept(nms_iou=None, confidence=None)
    )
    assert given.metrics.operating_point.merging == "wbf NMS IoU 0.45, tiles of 64 px"


def test_a_narrower_range_is_kept_to():
    split, raw = case(5, images=12, boxes=60, detections=500)
    wide = judge(CocoEvaluator(split), [(WHOLE, raw)], CONFIG, Swept(nms_iou=(0.3, 0.8), confidence=(0.0, 1.0)))
    best = wide.metrics.operating_point.confidence
    low, high = best / 3, best / 2
    judgement = judge(CocoEvaluator(split), [(WHOLE, raw)], CONFIG, Swept(nms_iou=(0.5, 0.62), confidence=(low, high)))
    assert [row.nms_iou for row in judgement.rows] == [0.5, 0.54, 0.58, 0.62]
    assert low <= judgement.metrics.operating_point.confidence <= high
    raw = dataclasses.replace(raw, scores=raw.scores * np.float32(0.9))
    out_of_reach = judge(CocoEvaluator(split), [(WHOLE, raw)], CONFIG, Swept(nms_iou=None, confidence=(0.95, 1.0)))
    point = out_of_reach.metrics.operating_point
    assert (point.confidence, point.recall, point.f1, point.f1_spread) == (1.0, 0.0, 0.0, None)


OBJECTIVES = ("map", "map_small", "worst_class_map", "f1", "recall@precision=0.6", "count_mae", "0.7*map + 0.3*f1")


@pytest.mark.parametrize("objective", [*OBJECTIVES, "map - 0.01*latency_ms", "latency_ms"])
def test_tiles_and_nms_are_chosen_by_the_objective(objective):
    split, whole = case(9, images=10, boxes=60, detections=500)
    _, other = case(9, images=10, boxes=60, detections=450)
    seen = [(WHOLE, whole), (Tiles(size=64), other)]
    every = Swept(nms=("greedy", "soft-linear"), nms_iou=(0.3, 0.7))
    evaluator = CocoEvaluator(split)
    of_detections = {"map - 0.01*latency_ms": "map", "latency_ms": "map"}.get(objective, objective)
    parsed = Objective.parse(of_detections)
    turned = -1 if parsed.direction == "minimize" else 1

    def value(metrics):
        return turned * objective_value(parsed, metrics)

    found = judge(evaluator, seen, CONFIG, every, objective=objective).metrics
    values = []
    for one in seen:
        for kind in every.nms:
            for nms_iou in nms_grid(*every.nms_iou):
                config = CONFIG.model_copy(update={"nms": kind, "nms_iou": nms_iou})
                alone = judge(evaluator, [one], config, Swept(nms_iou=None), objective=objective).metrics
                values.append(value(alone))
                point = found.operating_point
                if (one[0], kind, nms_iou) == (point.tiles, point.nms, point.nms_iou):
                    assert alone == found
    assert len(set(values)) > 1
    assert value(found) == max(values)


@pytest.mark.parametrize(
    ("objective", "criterion"),
    [
        ("map", "f1"),
        ("map + 0.1*recall", "f1"),
        ("0.5*map + precision@recall=0.7", "precision@recall=0.7"),
        ("map - 0.1*count_mae", "count"),
        ("recall@precision=1", "f1"),  # never reached here
    ],
)
def test_the_threshold_serves_what_the_objective_says_of_thresholds(objective, criterion):
    split, raw = case(9, images=20, boxes=100, detections=900)
    raw = dataclasses.replace(raw, scores=np.where(raw.scores == raw.scores.max(), 0.5, raw.scores))
    lone = make_predictions(RawPredictions, [0], [0], [[600, 600, 640, 640]], [1.0], images=20)  # a false positive
    raw = make_predictions(
        RawPredictions,
        np.append(raw.image_index, 0),
        np.append(raw.labels, 0),
        np.concatenate([raw.boxes, lone.boxes]),
        np.append(raw.scores, 1.0),
        images=20,
    )
    metrics = judge(CocoEvaluator(split), [(WHOLE, raw)], CONFIG, Swept(), objective=objective).metrics
    assert metrics.operating_point.criterion == criterion
    assert metrics.count_mae == metrics.operating_point.count_error
    if "@" in objective:
        assert set(metrics.criteria) == {name for name in Objective.parse(objective).names if "@" in name}


def test_grid_of_nms_values():
    assert nms_grid(0.3, 0.8) == NMS_IOUS
    assert nms_grid(0.5, 0.5) == (0.5,)
    assert len(nms_grid(0.0, 1.0)) == 21


def test_judgement_with_nothing_swept():
    split, raw = case(5, images=12, boxes=60, detections=500)
    evaluator = CocoEvaluator(split)
    judgement = judge(evaluator, [(WHOLE, raw)], CONFIG, Swept(nms_iou=None, confidence=None))
    point = judgement.metrics.operating_point
    assert (point.nms_iou, point.confidence, point.criterion) == (0.45, 0.3, "given")
    assert judgement.metrics.map == evaluator.evaluate(suppress(raw, 0.45, max_detections=50)).map
    assert point.f1 == judgement.curve.at(0.3).f1
    assert point.f1_spread is None


def test_nothing_to_find_gives_no_operating_point():
    split = make_split([], [], [], images=2, classes=1)
    raw = make_predictions(RawPredictions, [0], [0], [[0, 0, 9, 9]], [0.5], images=2)
    for nms_ious, confidences in (((0.3, 0.8), (0.0, 1.0)), (None, None)):
        judgement = judge(CocoEvaluator(split), [(WHOLE, raw)], CONFIG, Swept(nms_iou=nms_ious, confidence=confidences))
        assert judgement.metrics.map is None
        assert judgement.metrics.operating_point is None
        assert np.isnan(judgement.curve.f1).all()


def test_no_detections():
    split = make_split([0], [0], [[5, 5, 20, 20]], images=1, classes=1)
    raw = make_predictions(RawPredictions, [], [], [], [], images=1)
    judgement = judge(CocoEvaluator(split), [(WHOLE, raw)], CONFIG, Swept(nms_iou=(0.3, 0.8), confidence=(0.0, 1.0)))
    assert judgement.metrics.map == 0
    nothing = judgement.metrics.operating_point
    assert (nothing.confidence, nothing.precision, nothing.recall, nothing.f1) == (1, 0, 0, 0)
    assert judgement.metrics.count_mae == 1
    judgement = judge(CocoEvaluator(split), [(WHOLE, raw)], CONFIG, Swept(nms_iou=(0.3, 0.8), confidence=None))
    given = judgement.metrics.operating_point
    assert (given.precision, given.recall, given.f1) == (0, 0, 0)
