"""The judgement of a trial: what is swept, what is chosen, by which objective."""

import dataclasses
import gc

import numpy as np
import pytest

from tests.evaluation.cases import make_predictions, make_split, raw_case
from tuner.config.objective import Objective
from tuner.config.trial import WHOLE, Tiles, TrialConfig
from tuner.evaluation.coco import CocoEvaluator
from tuner.evaluation.judge import judge
from tuner.evaluation.named import objective_value
from tuner.models.predictions import Detections, RawPredictions
from tuner.postprocess.apply import hits_of
from tuner.postprocess.nms import suppress
from tuner.postprocess.sweep import NMS_IOUS, nms_grid
from tuner.postprocess.swept import Swept

CONFIG = TrialConfig(nms_iou=0.45, confidence=0.3, max_detections=50)


def test_of_equal_suppressions_the_preferred_nms_iou():
    split = make_split([0], [0], [[0, 0, 50, 50]], images=2, classes=1)
    raw = make_predictions(RawPredictions, [0, 1], [0, 0], [[0, 0, 50, 50], [9, 9, 50, 50]], [0.9, 0.1], images=2)
    for prefer in (0.35, 0.65):
        config = CONFIG.model_copy(update={"nms_iou": prefer})
        assert judge(CocoEvaluator(split), [(WHOLE, raw)], config, Swept()).metrics.operating_point.nms_iou == prefer


def test_judgement_with_everything_swept():
    split, raw = raw_case(5, images=12, boxes=60, detections=500)
    evaluator = CocoEvaluator(split)
    judgement = judge(evaluator, [(WHOLE, raw)], CONFIG, Swept(nms_iou=(0.3, 0.8), confidence=(0.0, 1.0)))
    point = judgement.metrics.operating_point
    every = [evaluator.evaluate(suppress(raw, nms_iou, max_detections=50)) for nms_iou in NMS_IOUS]
    assert judgement.metrics.map == max(m.map for m in every)
    assert judgement.metrics.model_copy(update=dict.fromkeys(("operating_point", "count_mae", "count_bias"))) in every
    assert point.confidence in raw.scores
    assert point.criterion == "f1"
    curve = hits_of(judgement.detections, evaluator.truth).curve()
    assert curve.at(point.confidence).f1 == curve.f1.max()
    assert 0 < point.f1 < 1


def test_judgement_over_tiles_and_kinds_of_nms():
    """The best of judging each alone; where two are equal, the first."""
    split, whole = raw_case(5, images=6, boxes=30, detections=100)
    _, other = raw_case(5, images=6, boxes=30, detections=200)
    tiles = Tiles(size=64)
    for raws in ((other, whole), (whole, whole)):
        seen = list(zip((WHOLE, tiles), raws, strict=True))
        every = Swept(nms=("soft-gaussian", "greedy", "diou"))
        evaluator = CocoEvaluator(split)
        found = judge(evaluator, iter(seen), CONFIG, every)
        alone = [judge(evaluator, [one], CONFIG, Swept(nms=(kind,))) for one in seen for kind in every.nms]
        assert found.metrics.map == max(one.metrics.map for one in alone)
        point = found.metrics.operating_point
        want = suppress(dict(seen)[point.tiles], point.nms_iou, kind=point.nms, max_detections=50)
        np.testing.assert_array_equal(found.detections.scores, want.scores)
        assert evaluator.evaluate(found.detections).map == found.metrics.map
    assert point.tiles == WHOLE
    given = judge(
        evaluator, [(tiles, other)], CONFIG.model_copy(update={"nms": "wbf"}), Swept(nms_iou=None, confidence=None)
    )
    assert given.metrics.operating_point.merging == "wbf NMS IoU 0.45, tiles of 64 px"


@pytest.mark.parametrize("objective", ["map", "f1"])
def test_only_the_best_suppression_so_far_is_held_in_memory(objective):
    split, raw = raw_case(5)
    held = []

    def alive(*_):
        held.append(sum(type(thing) is Detections for thing in gc.get_objects()))

    alive()
    every = Swept(nms=("greedy", "soft-linear"), nms_iou=(0.3, 0.6))
    judge(CocoEvaluator(split), [(WHOLE, raw)], CONFIG, every, objective=objective, alive=alive)
    before, *during = held
    assert len(during) == 14
    assert max(during) - before <= 4  # the best, the last, the next, and all boxes in order


def test_a_narrower_range_is_kept_to():
    split, raw = raw_case(5, images=12, boxes=60, detections=500)
    wide = judge(CocoEvaluator(split), [(WHOLE, raw)], CONFIG, Swept(nms_iou=(0.3, 0.8), confidence=(0.0, 1.0)))
    best = wide.metrics.operating_point.confidence
    low, high = best / 3, best / 2
    judgement = judge(CocoEvaluator(split), [(WHOLE, raw)], CONFIG, Swept(nms_iou=(0.5, 0.62), confidence=(low, high)))
    assert judgement.metrics.operating_point.nms_iou in (0.5, 0.54, 0.58, 0.62)
    assert low <= judgement.metrics.operating_point.confidence <= high
    raw = dataclasses.replace(raw, scores=raw.scores * np.float32(0.9))
    out_of_reach = judge(CocoEvaluator(split), [(WHOLE, raw)], CONFIG, Swept(nms_iou=None, confidence=(0.95, 1.0)))
    point = out_of_reach.metrics.operating_point
    assert (point.confidence, point.recall, point.f1, point.f1_spread) == (1.0, 0.0, 0.0, None)


OBJECTIVES = ("map", "map_small", "worst_class_map", "f1", "recall@precision=0.6", "count_mae", "0.7*map + 0.3*f1")


@pytest.mark.parametrize("objective", [*OBJECTIVES, "map - 0.01*latency_ms", "latency_ms"])
def test_tiles_and_nms_are_chosen_by_the_objective(objective):
    split, whole = raw_case(9, images=10, boxes=60, detections=500)
    _, other = raw_case(9, images=10, boxes=60, detections=450)
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
    split, raw = raw_case(9, images=20, boxes=100, detections=900)
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


@pytest.mark.parametrize("criterion", ["recall@precision=0.3", "precision@recall=0.2"])
def test_a_criterion_is_worth_what_the_permitted_thresholds_reach(criterion):
    split, raw = raw_case(9, images=20, boxes=100, detections=900)

    def value(confidence, config=CONFIG):
        swept = Swept(nms_iou=None, confidence=confidence)
        metrics = judge(CocoEvaluator(split), [(WHOLE, raw)], config, swept, objective=criterion).metrics
        return metrics.criteria[criterion], metrics.operating_point

    wanted, limited = criterion.split("@")
    name, least = limited.split("=")
    best, _ = value((0.0, 1.0))
    reached, point = value((0.6, 0.9))
    assert 0.6 <= point.confidence <= 0.9
    assert getattr(point, wanted) <= reached
    assert reached < best or wanted == "precision"
    for confidence in (0.1, 0.3, 0.6, 0.99):
        given, point = value(None, CONFIG.model_copy(update={"confidence": confidence}))
        assert given == (getattr(point, wanted) if getattr(point, name) >= float(least) else 0.0)


def test_judgement_with_nothing_swept():
    split, raw = raw_case(5, images=12, boxes=60, detections=500)
    evaluator = CocoEvaluator(split)
    judgement = judge(evaluator, [(WHOLE, raw)], CONFIG, Swept(nms_iou=None, confidence=None))
    point = judgement.metrics.operating_point
    assert (point.nms_iou, point.confidence, point.criterion) == (0.45, 0.3, "given")
    assert judgement.metrics.map == evaluator.evaluate(suppress(raw, 0.45, max_detections=50)).map
    assert point.f1 == hits_of(judgement.detections, evaluator.truth).curve().at(0.3).f1
    assert point.f1_spread is None


def test_nothing_to_find_gives_no_operating_point():
    split = make_split([], [], [], images=2, classes=1)
    raw = make_predictions(RawPredictions, [0], [0], [[0, 0, 9, 9]], [0.5], images=2)
    for nms_ious, confidences in (((0.3, 0.8), (0.0, 1.0)), (None, None)):
        judgement = judge(CocoEvaluator(split), [(WHOLE, raw)], CONFIG, Swept(nms_iou=nms_ious, confidence=confidences))
        assert judgement.metrics.map is None
        assert judgement.metrics.operating_point is None
        assert len(judgement.detections.scores) == 1


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
