"""Each kind of NMS against its paper's definition, written out one box at a time."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluation.cases import make_predictions, random_case
from tests.postprocess import plain
from tests.simulated_gpu import CUDA, simulated_gpu
from tuner.models.predictions import RawPredictions
from tuner.postprocess import fusion, nms_kinds, voting
from tuner.postprocess.nms import shown_at, suppress
from tuner.postprocess.nms_kinds import KINDS
from tuner.postprocess.operating_point import OperatingPoint

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def raw_case(seed, *, images=3, classes=2, detections=60, boxes=8, **shape):
    rng = np.random.default_rng(seed)
    shape = {"images": images, "classes": classes, "detections": detections, "boxes": boxes, **shape}
    return random_case(rng, kind=RawPredictions, **shape)[1]


def by_definition(kind, boxes, scores, labels, value):
    """(source, box, score) of each detection, by descending score."""
    if kind == "wbf":
        return plain.fuse(boxes, scores, labels, value)
    if kind == "greedy-voting":
        kept = plain.greedy(boxes, scores, labels, value)
        return [(i, plain.vote(boxes, scores, labels, i), scores[i]) for i in kept]
    if kind == "soft-linear":
        found = plain.soft_linear(boxes, scores, labels, value)
    elif kind == "soft-gaussian":
        found = plain.soft_gaussian(boxes, scores, labels, value)
    elif kind == "diou":
        found = [(i, scores[i]) for i in plain.diou_nms(boxes, scores, labels, value)]
    elif kind == "none":
        found = [(i, scores[i]) for i in sorted(range(len(scores)), key=lambda i: -scores[i])]
    else:
        groups = [0] * len(scores) if kind == "greedy-agnostic" else labels
        found = [(i, scores[i]) for i in plain.greedy(boxes, scores, groups, value)]
    return [(i, boxes[i], score) for i, score in found]


def assert_defined(kind, raw, value, cap, device="cpu"):
    tensors = [torch.from_numpy(a).to(device) for a in (raw.boxes, raw.scores, raw.labels, raw.offsets)]
    kept = KINDS[kind](*tensors, value, cap)
    for i in range(len(raw.offsets) - 1):
        start, stop = raw.offsets[i : i + 2]
        want = by_definition(kind, raw.boxes[start:stop], raw.scores[start:stop], raw.labels[start:stop], value)[:cap]
        part = slice(int(kept.offsets[i]), int(kept.offsets[i + 1]))
        assert (kept.source[part] - start).tolist() == [source for source, _, _ in want]
        np.testing.assert_allclose(kept.scores[part].cpu(), [score for _, _, score in want], rtol=1e-12, atol=1e-300)
        boxes = np.array([box for _, box, _ in want], dtype=np.float64).reshape(-1, 4)
        np.testing.assert_allclose(kept.boxes[part].cpu(), boxes, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    detections=st.integers(0, 80),
    classes=st.integers(1, 3),
    score_steps=st.sampled_from([0, 4]),
    value=st.sampled_from([0.05, 0.3, 0.5, 0.65, 1.0]),
    cap=st.sampled_from([1, 7, 100]),
)
def test_equals_the_paper(kind, device, seed, value, cap, **shape):
    assert_defined(kind, raw_case(seed, **shape), value, cap, device)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    detections=st.integers(0, 80),
    grid=st.sampled_from([0.0, 16.0]),
    value=st.sampled_from([0.05, 0.3, 0.5, 0.7, 1.0]),
    cap=st.sampled_from([1, 7, 100]),
)
def test_greedy_as_a_gpu_does_it_equals_the_definition(seed, value, cap, **shape):
    """All images together: the same function that CUDA tensors go through."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(KINDS, "greedy", nms_kinds._greedy_together)
        assert_defined("greedy", raw_case(seed, score_steps=8, **shape), value, cap)


@pytest.mark.parametrize("greedy", [nms_kinds._greedy_by_image, nms_kinds._greedy_together])
def test_greedy_is_exact_on_large_canvases_and_at_its_threshold(greedy):
    """Boxes of float32 in an image of 30,000 pixels with 300 classes; 0.7 is not 0.7 in float32."""
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 30_000, size=(600, 1, 2)).repeat(3, axis=1) + rng.uniform(0, 3, size=(600, 3, 2))
    boxes = np.concatenate([low, low + rng.uniform(8, 12, size=(600, 3, 2))], axis=2).reshape(-1, 4).astype(np.float32)
    boxes[:2] = [0, 0, 10, 10], [0, 0, 7, 10]
    labels = np.repeat(np.arange(600) % 300, 3)
    scores = np.linspace(1, 0.1, 1800, dtype=np.float32)
    tensors = [torch.from_numpy(a) for a in (boxes, scores, labels, np.array([0, 1800]))]
    close = np.unique([plain.iou(boxes[i], boxes[i + 1]) for i in range(0, 1800, 3)])
    for value in (0.7, *close[len(close) // 2 :: 60].tolist()):
        kept = greedy(*tensors, value, 1800)
        assert kept.source.tolist() == plain.greedy(boxes, scores, labels, value)


@pytest.mark.parametrize("kind", KINDS)
def test_on_a_gpu_the_same_with_as_many_waits_for_many_images_as_for_few(kind):
    looks = []
    for images in (2, 16, 100):
        raw = raw_case(4, images=images, detections=images * 30, boxes=images * 3)
        with simulated_gpu() as gpu:
            found = suppress(raw, 0.5, kind=kind, max_detections=20, device=CUDA)
        looks.append(len(gpu.waits))
        want = suppress(raw, 0.5, kind=kind, max_detections=20)
        for part in ("boxes", "scores", "labels", "offsets"):
            np.testing.assert_array_equal(getattr(found, part), getattr(want, part))
    # Eight are copies there and back. Groups of more boxes take fusion more rounds, with a look at every eighth.
    most = 30 if kind == "greedy-voting" else 20
    assert looks[0] == looks[1] == looks[2] < most if kind != "wbf" else max(looks) - min(looks) < 8


@pytest.mark.parametrize("kind", ["greedy", "diou", "none"])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), value=st.sampled_from([0.2, 1 / 3, 0.5, 1.0]))
def test_equals_the_paper_where_overlaps_tie(kind, seed, value):
    assert_defined(kind, raw_case(seed, grid=16.0, score_steps=4), value, 100)


@pytest.mark.parametrize("kind", KINDS)
def test_many_blocks_equal_one(kind, monkeypatch):
    raw = raw_case(1, images=9, detections=200)
    whole = suppress(raw, 0.4, kind=kind)
    for module in (nms_kinds, fusion, voting):
        monkeypatch.setitem(module._CELLS_PER_BLOCK, "cpu", 40)
    parts = suppress(raw, 0.4, kind=kind)
    for name in ("boxes", "scores", "labels", "offsets"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), confidence=st.sampled_from([0.1, 0.3, 0.5]), cap=st.sampled_from([6, 100]))
def test_a_threshold_only_cuts_the_tail(kind, seed, confidence, cap):
    """Decision 4, for every kind: on the scores that come out of suppression."""
    raw = raw_case(seed)
    everything = suppress(raw, 0.4, kind=kind, max_detections=cap)
    part = suppress(raw, 0.4, kind=kind, max_detections=cap, confidence=confidence)
    above = everything.subset(everything.scores.astype(float) >= confidence)
    for name in ("boxes", "scores", "labels", "offsets"):
        np.testing.assert_array_equal(getattr(part, name), getattr(above, name))


@pytest.mark.parametrize(("kind", "same"), [("soft-linear", True), ("soft-gaussian", True), ("wbf", False)])
def test_cutting_raw_scores_beforehand_is_harmless_but_for_fusion(kind, same):
    raw = raw_case(2, detections=200)
    cut = raw.subset(raw.scores >= 0.3)
    before = suppress(cut, 0.4, kind=kind, confidence=0.3)
    after = suppress(raw, 0.4, kind=kind, confidence=0.3)
    assert (before.scores.tolist() == after.scores.tolist()) is same


def test_low_scores_vote_even_where_a_threshold_hides_them():
    boxes = [[0, 0, 10, 10], [0, 0, 10, 11], [50, 50, 60, 60]]
    raw = make_predictions(RawPredictions, [0] * 3, [0] * 3, boxes, [0.9, 0.1, 0.8], images=1)
    found = suppress(raw, 0.5, kind="greedy-voting", confidence=0.5)
    np.testing.assert_array_equal(found.scores, np.array([0.9, 0.8], dtype=np.float32))
    assert 10.0 < found.boxes[0, 3] < 10.1
    assert found.boxes[1].tolist() == boxes[2]


def test_scores_of_zero_are_fused_and_kept():
    boxes = [[0, 0, 10, 10], [0, 0, 10, 11], [50, 50, 60, 60]]
    raw = make_predictions(RawPredictions, [0] * 3, [0] * 3, boxes, [0.0, 0.0, 0.0], images=1)
    assert suppress(raw, 0.5, kind="wbf").boxes.tolist() == [boxes[0], boxes[2]]
    assert len(suppress(raw, 0.5, kind="soft-gaussian").scores) == 3
    assert len(suppress(raw, 0.5, kind="diou").scores) == 2


def test_boxes_without_area():
    raw = make_predictions(RawPredictions, [0, 0], [0, 0], [[5, 5, 5, 5]] * 2, [0.9, 0.8], images=1)
    for kind in KINDS:
        found = suppress(raw, 0.5, kind=kind)
        assert len(found.scores) == 2
        assert np.isfinite(found.boxes).all()


@pytest.mark.parametrize("kind", KINDS)
def test_an_operating_point_is_honoured(kind):
    raw = raw_case(3, detections=200)
    point = OperatingPoint(
        nms=kind, nms_iou=0.4, confidence=0.4, class_confidence={"b": 0.2}, precision=0, recall=0, f1=0
    )
    everything = suppress(raw, 0.4, kind=kind, max_detections=50)
    shown = shown_at(raw, point, ("a", "b"), max_detections=50)
    kept = everything.scores.astype(float) >= np.where(everything.labels == 1, 0.2, 0.4)
    np.testing.assert_array_equal(shown.boxes, everything.boxes[kept])
    assert dataclasses.replace(shown).offsets[-1] == kept.sum()
