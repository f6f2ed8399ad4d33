"""Predictions in windows put together on their images, of which only the best are held."""

from __future__ import annotations

import numpy as np
import pytest

from tuner.config.errors import DataError
from tuner.config.trial import TrialConfig
from tuner.models.build import build_detector
from tuner.models.predictions import RawPredictions
from tuner.trainers.detection.tiling import merge_windows, most_rows

COUNTS = np.array([1, 5, 2, 3])
WINDOWS = np.array([[10 * i, 7 * i, 10 * i + 64, 7 * i + 64] for i in range(11)])


def seen_in_parts(batch_size: int, seed: int = 0) -> list[RawPredictions]:
    """Predictions of 11 windows, so many windows at a time; scores tie."""
    rng = np.random.default_rng(seed)
    parts = []
    counts = rng.integers(0, 9, 11)
    boxes = rng.uniform(0, 30, (counts.sum(), 4)).astype(np.float32)
    boxes[:, 2:] += boxes[:, :2] + 1
    scores = np.round(rng.random(counts.sum()), 1).astype(np.float32)
    labels = rng.integers(0, 3, counts.sum())
    ends = np.concatenate([[0], np.cumsum(counts)])
    for start in range(0, 11, batch_size):
        offsets = ends[start : start + batch_size + 1]
        here = slice(offsets[0], offsets[-1])
        parts.append(RawPredictions(boxes[here], scores[here], labels[here], offsets - offsets[0]))
    return parts


@pytest.mark.parametrize("most", [1, 4, 1000])
@pytest.mark.parametrize("batch_size", [1, 2, 4, 11])
def test_the_best_of_each_image_are_kept_however_windows_are_batched(batch_size: int, most: int) -> None:
    (together,) = seen_in_parts(11)
    boxes = together.boxes.astype(np.float64) + WINDOWS[together.image_index][:, [0, 1, 0, 1]]
    image = np.repeat(np.arange(4), COUNTS)[together.image_index]
    found = merge_windows(iter(seen_in_parts(batch_size)), WINDOWS, COUNTS, most)
    for i in range(4):
        rows = np.flatnonzero(image == i)
        rows = rows[np.argsort(-together.scores[rows], kind="stable")][:most]
        here = found.of_image(i)
        np.testing.assert_array_equal(here.scores, together.scores[rows])
        np.testing.assert_array_equal(here.labels, together.labels[rows])
        np.testing.assert_array_equal(here.boxes, boxes[rows].astype(np.float32))
    assert (found.boxes.dtype, found.labels.dtype, found.offsets.dtype) == (np.float32, np.int64, np.int64)


def test_no_more_is_held_than_the_best_of_each_image() -> None:
    """Nothing of a batch is held once the next is asked for, but for what is kept."""
    asked = []

    def parts():
        for part in seen_in_parts(1):
            asked.append(len(part.scores))
            yield part

    found = merge_windows(parts(), WINDOWS, COUNTS, 2)
    assert sum(asked) > len(found.scores)
    assert (np.diff(found.offsets) <= 2).all()
    assert all(array.base is None or len(array.base) <= len(found.scores) for array in (found.boxes, found.scores))


@pytest.mark.parametrize("part", ["boxes", "scores"])
def test_what_is_not_a_number_is_kept(part: str) -> None:
    parts = seen_in_parts(1)
    best = next(i for i, one in enumerate(parts) if i >= 1 and len(one.scores))
    getattr(parts[best], part)[0] = np.nan
    if part == "boxes":
        parts[best].scores[0] = 1
    with pytest.raises(DataError, match="NaN or infinite"):
        merge_windows(parts, WINDOWS, COUNTS, 1).check(4, 3)


def test_as_many_rows_as_an_image_without_tiles_has_at_least() -> None:
    config = TrialConfig(model="fcos-resnet50", image_size=64, max_detections=300)
    detector = build_detector(config, 2)
    assert most_rows(detector) == 3 * detector.max_candidates == 9000
