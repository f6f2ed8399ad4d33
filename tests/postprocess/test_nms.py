"""Greedy NMS against its definition."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluation.cases import make_predictions, random_case
from tests.postprocess import plain
from tuner.config.errors import DataError
from tuner.models.predictions import RawPredictions
from tuner.postprocess import nms, nms_many
from tuner.postprocess.nms import suppress
from tuner.postprocess.nms_kinds import KINDS, greedy
from tuner.postprocess.nms_many import KEEPING_SCORES, suppress_many

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def raw_case(seed, *, images=3, classes=3, detections=80, grid=16.0, score_steps=10, boxes=8):
    return random_case(
        np.random.default_rng(seed),
        images=images,
        classes=classes,
        boxes=boxes,
        detections=detections,
        kind=RawPredictions,
        grid=grid,
        score_steps=score_steps,
    )


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    detections=st.integers(0, 80),
    grid=st.sampled_from([0.0, 16.0]),
    score_steps=st.sampled_from([0, 4]),
    nms_iou=st.sampled_from([0.05, 0.3, 0.5, 0.65, 1.0]),
    cap=st.sampled_from([1, 7, 100]),
    confidence=st.sampled_from([0.0, 0.25, 0.3, 1.0]),
    agnostic=st.booleans(),
)
def test_suppress_equals_the_definition(seed, detections, grid, score_steps, nms_iou, cap, confidence, agnostic):
    _, raw = raw_case(seed, detections=detections, grid=grid, score_steps=score_steps)
    got = suppress(
        raw, nms_iou, max_detections=cap, confidence=confidence, kind="greedy-agnostic" if agnostic else "greedy"
    )
    for i in range(3):
        rows = [p for p in range(raw.offsets[i], raw.offsets[i + 1]) if float(raw.scores[p]) >= confidence]
        groups = [0 if agnostic else raw.labels[p] for p in rows]
        kept = plain.greedy(raw.boxes[rows], raw.scores[rows], groups, nms_iou)[:cap]
        rows = np.array(rows, dtype=np.int64)[kept]
        part = slice(got.offsets[i], got.offsets[i + 1])
        np.testing.assert_array_equal(got.boxes[part], raw.boxes[rows])
        np.testing.assert_array_equal(got.scores[part], raw.scores[rows])
        np.testing.assert_array_equal(got.labels[part], raw.labels[rows])


@pytest.mark.parametrize("device", DEVICES)
def test_many_classes_cost_no_precision(device):
    """The same two boxes in 5,000 classes: their IoU is just above the threshold in each."""
    pair = torch.tensor([[600.1, 600.1, 610.2, 610.2], [600.1, 600.1, 610.2, 605.16]])
    exact = plain.iou(pair[0], pair[1])
    boxes, scores = pair.repeat(5000, 1).to(device), torch.tensor([0.9, 0.8]).repeat(5000).to(device)
    labels = torch.arange(5000).repeat_interleave(2).to(device)
    offsets = torch.tensor([0, 10000]).to(device)
    assert len(greedy(boxes, scores, labels, offsets, exact - 1e-9, 10000).source) == 5000
    assert len(greedy(boxes, scores, labels, offsets, exact + 1e-9, 10000).source) == 10000


@pytest.mark.parametrize("kind", KINDS)
def test_a_large_split_is_suppressed_some_images_at_a_time(kind, monkeypatch):
    _, raw = raw_case(3, images=9, detections=600)
    want, seen = suppress(raw, 0.5, kind=kind, max_detections=20), []

    def watched(boxes, *rest):
        seen.append(len(boxes))
        return KINDS[kind](boxes, *rest)

    monkeypatch.setattr(nms, "_BOXES_AT_ONCE", 170)
    monkeypatch.setattr(nms, "KINDS", {kind: watched})
    found = suppress(raw, 0.5, kind=kind, max_detections=20)
    assert max(seen) <= 170
    assert sum(seen) == len(raw.scores) > 3 * 170
    for column in ("boxes", "scores", "labels", "offsets"):
        np.testing.assert_array_equal(getattr(found, column), getattr(want, column))


def test_no_images_and_no_boxes():
    empty = make_predictions(RawPredictions, [], [], [], [], images=2)
    nothing = RawPredictions(empty.boxes, empty.scores, empty.labels, np.array([0]))
    for kind in KINDS:
        assert suppress(empty, 0.5, kind=kind).offsets.tolist() == [0, 0, 0]
        assert suppress(nothing, 0.5, kind=kind).offsets.tolist() == [0]


def test_nan_is_refused():
    raw = make_predictions(RawPredictions, [1], [0], [[0, 0, np.nan, 5]], [0.5], images=2)
    with pytest.raises(DataError, match="first in image number 1"):
        suppress(raw, 0.5)


def test_saved_predictions_come_back(tmp_path):
    _, raw = raw_case(5)
    raw.save(tmp_path / "predictions.npz")
    loaded = RawPredictions.load(tmp_path / "predictions.npz")
    for name in ("boxes", "scores", "labels", "offsets"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(raw, name))
    assert [p.name for p in tmp_path.iterdir()] == ["predictions.npz"]


def test_broken_files_of_predictions_are_refused(tmp_path):
    path = tmp_path / "predictions.npz"
    with pytest.raises(DataError, match="no such file"):
        RawPredictions.load(path)
    path.write_bytes(b"PK nothing")
    with pytest.raises(DataError, match="not a file of predictions"):
        RawPredictions.load(path)
    _, raw = raw_case(5)
    RawPredictions(raw.boxes, raw.scores, raw.labels, raw.offsets[:-1]).save(path)
    with pytest.raises(DataError, match="offsets do not divide 80 predictions"):
        RawPredictions.load(path)
    raw.save(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match="not a file of predictions"):
        RawPredictions.load(path)
    RawPredictions(raw.boxes[:-1], raw.scores, raw.labels, raw.offsets).save(path)
    with pytest.raises(DataError, match=r"boxes is float32 \(79, 4\)"):
        RawPredictions.load(path)
    np.savez(path, boxes=np.array([object()], dtype=object))
    with pytest.raises(DataError, match="not a file of predictions"):
        RawPredictions.load(path)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    detections=st.integers(0, 300),
    grid=st.sampled_from([0.0, 16.0, 50.0]),
    score_steps=st.sampled_from([0, 4]),
    cap=st.sampled_from([1, 7, 100]),
    nms_ious=st.lists(st.sampled_from([0.05, 0.3, 0.5, 0.65, 0.8, 1.0]), min_size=1),
    kind=st.sampled_from(sorted(KEEPING_SCORES)),
    blocks=st.sampled_from([(256, 4096, 1 << 18), (5, 12, 9), (1, 1, 1)]),
)
def test_many_values_at_once_equal_one_after_the_other(
    seed, detections, grid, score_steps, cap, nms_ious, kind, blocks
):
    _, raw = raw_case(seed, detections=detections, grid=grid, score_steps=score_steps)
    with pytest.MonkeyPatch.context() as patch:
        # Few boxes, images and pairs at a time.
        for name, value in zip(("_BOXES_PER_STEP", "_BOXES_PER_BLOCK", "_PAIRS_PER_BLOCK"), blocks, strict=True):
            patch.setattr(nms_many, name, value)
        ordered, kept = suppress_many(raw, nms_ious, kind=kind, max_detections=cap)
    for nms_iou, row in zip(nms_ious, kept, strict=True):
        got, want = ordered.subset(row), suppress(raw, nms_iou, kind=kind, max_detections=cap)
        for name in ("boxes", "scores", "labels", "offsets"):
            np.testing.assert_array_equal(getattr(got, name), getattr(want, name))


def test_many_values_over_several_blocks_of_images():
    _, raw = raw_case(7, images=12, detections=15_000, grid=0.0, score_steps=0, boxes=100)
    ordered, kept = suppress_many(raw, (0.4, 0.7))
    for nms_iou, row in zip((0.4, 0.7), kept, strict=True):
        np.testing.assert_array_equal(ordered.subset(row).boxes, suppress(raw, nms_iou).boxes)


def test_only_a_block_of_pairs_is_held_at_a_time(monkeypatch):
    """However many boxes an image has, and whatever is kept: pairs come in blocks, and few boxes beyond the cap."""
    sizes, looked_at = [], []
    real_iou, real_pairs = nms_many._iou, nms_many._close_pairs
    monkeypatch.setattr(nms_many, "_iou", lambda a, b: sizes.append(a.shape[1]) or real_iou(a, b))
    monkeypatch.setattr(
        nms_many, "_close_pairs", lambda boxes, *a: looked_at.append(len(boxes)) or real_pairs(boxes, *a)
    )
    _, raw = raw_case(8, images=2, classes=1, detections=12_000, grid=0.0, score_steps=0, boxes=40)
    nms_ious = (0.3, 0.5, 0.7)
    suppress_many(raw, nms_ious)
    most = nms_many._BOXES_PER_STEP + 100 * len(nms_ious)
    assert max(sizes) <= nms_many._PAIRS_PER_BLOCK + most
    assert max(looked_at) <= 2 * most
    few = sum(looked_at)
    suppress_many(raw, nms_ious, max_detections=12_000)
    assert max(sizes) <= nms_many._PAIRS_PER_BLOCK + 12_000
    assert sum(looked_at) - few > 3 * few


def test_a_chain_of_boxes_each_suppressing_the_next(monkeypatch):
    """The deepest dependence there is: every other box stays."""
    left = np.arange(200.0)[:, None] * 4
    boxes = np.concatenate([left, np.zeros_like(left), left + 10, np.full_like(left, 10)], axis=1)
    raw = make_predictions(RawPredictions, np.zeros(200), np.zeros(200), boxes, np.linspace(1, 0.1, 200), images=1)
    for step in (256, 7):  # decided together, or a few at a time
        monkeypatch.setattr(nms_many, "_BOXES_PER_STEP", step)
        _, kept = suppress_many(raw, (0.4, 0.5), max_detections=200)
        assert kept[0].tolist() == [True, False] * 100
        assert kept[1].all()
