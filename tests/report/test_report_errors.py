"""The worst errors as cropped pictures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tuner.data.coco import load_split
from tuner.data.scenes import generate
from tuner.evaluation.errors import explain
from tuner.models.predictions import Detections
from tuner.report.error_pictures import draw_worst, window


def test_false_positives_by_score_and_misses_by_size(tmp_path: Path) -> None:
    split, _ = load_split(generate(tmp_path, train=2, val=3, test=1, size=(160, 120), seed=2), "val")
    # Nothing is found but two phantoms in a corner of the first image, one of them sure.
    found = Detections(
        boxes=np.array([[0, 0, 3, 3], [0, 0, 4, 4]], np.float32),
        scores=np.array([0.9, 0.2], np.float32),
        labels=np.array([1, 0]),
        offsets=np.array([0, 2, 2, 2]),
    )
    written = draw_worst(explain(split, found), tmp_path / "worst", most=4)
    names = [path.name for path in written]
    assert names[0] == f"false-positive-01-background-{split.classes[1]}.jpg"
    assert names[1] == f"false-positive-02-background-{split.classes[0]}.jpg"
    largest = split.labels[np.argsort(-split.areas, kind="stable")][:4]
    assert names[2:] == [f"missed-{i:02d}-{split.classes[k]}.jpg" for i, k in enumerate(largest, start=1)]
    for path in written:
        assert min(cv2.imread(str(path)).shape[:2]) > 1
    (tmp_path / "worst" / "missed.txt").write_text("not ours")
    fewer = draw_worst(explain(split, found.subset(found.scores > 0.5)), tmp_path / "worst", most=1)
    left = {path.name for path in (tmp_path / "worst").iterdir()}
    assert left == {path.name for path in fewer} | {"missed.txt"}


@given(
    start=st.tuples(st.floats(-50, 250), st.floats(-50, 250)),
    side=st.tuples(st.floats(0, 300), st.floats(0, 300)),
    size=st.tuples(st.integers(1, 200), st.integers(1, 200)),
)
def test_a_window_shows_the_box_as_far_as_the_image_goes(
    start: tuple[float, float], side: tuple[float, float], size: tuple[int, int]
) -> None:
    box = np.array([*start, start[0] + side[0], start[1] + side[1]])
    left, top, right, bottom = window(box, size)
    assert 0 <= left < right <= size[0]
    assert 0 <= top < bottom <= size[1]
    inside = np.clip(box, 0, [*size, *size])
    if (inside[2:] > inside[:2]).all():
        assert left <= inside[0] < inside[2] <= right
        assert top <= inside[1] < inside[3] <= bottom
