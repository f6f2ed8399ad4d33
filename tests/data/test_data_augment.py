import os

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.config.trial import Augment
from tuner.data import augment as module
from tuner.data.augment import Augmenter, place
from tuner.data.unseen import MIN_SIDE

WIDTH, HEIGHT, COUNT = 160, 128, 49
LEVELS = np.linspace(10, 250, 7).astype(np.uint8)
MOST_AREA = 1.6**2
"""Largest gain in area of any geometry at strength 1."""


def _rect(draw, width, height):
    x0, x1 = sorted(draw(st.lists(st.integers(0, width), min_size=2, max_size=2, unique=True)))
    y0, y1 = sorted(draw(st.lists(st.integers(0, height), min_size=2, max_size=2, unique=True)))
    return x0, y0, x1, y1


rects = st.composite(_rect)
units = st.floats(0, 1)
scales = st.floats(0.2, 4)


@given(rects(320, 256), rects(320, 256), st.tuples(scales, scales), st.tuples(units, units))
def test_tiles_lie_inside_and_map_exactly(content, area, scale, position):
    tile = place(content, area, scale, position)
    for inner, outer in ((tile.source, content), (tile.target, area)):
        assert outer[0] <= inner[0] < inner[2] <= outer[2]
        assert outer[1] <= inner[1] < inner[3] <= outer[3]
    scale_x, scale_y, shift_x, shift_y = tile.transform()
    x0, y0, x1, y1 = tile.source
    assert np.allclose([x0 * scale_x + shift_x, x1 * scale_x + shift_x], [tile.target[0], tile.target[2]])
    assert np.allclose([y0 * scale_y + shift_y, y1 * scale_y + shift_y], [tile.target[1], tile.target[3]])
    # Off the wanted scale by what rounding one side to whole pixels explains.
    for want, source, target in (
        (scale[0], x1 - x0, tile.target[2] - tile.target[0]),
        (scale[1], y1 - y0, tile.target[3] - tile.target[1]),
    ):
        assert abs(source * want - target) <= max(1, want)


def _painted(crowd):
    """Images of one box each, painted in a colour of its own, all with red 255; padding at the top and bottom."""
    rng = np.random.default_rng(5)
    images = np.full((COUNT, HEIGHT, WIDTH, 3), 114, np.uint8)
    images[:, 4:124] = 40
    start = rng.integers([2, 6], [100, 80], (COUNT, 2))
    boxes = np.concatenate([start, start + rng.integers(15, 40, (COUNT, 2))], axis=1)
    for i, (x0, y0, x1, y1) in enumerate(boxes):
        images[i, y0:y1, x0:x1] = 255, LEVELS[i % 7], LEVELS[i // 7]
    content = np.tile([0, 4, WIDTH, 124], (COUNT, 1))
    return images, content, boxes.astype(np.float64), np.full(COUNT, crowd), np.arange(COUNT + 1)


def _codes(image):
    """(H, W), the index of the box that a pixel was painted as; -1 for others."""
    nearest = np.abs(image[..., 1:, None].astype(int) - LEVELS.astype(int))
    painted = (image[..., 0] >= 235) & (nearest.min(axis=-1) <= 14).all(axis=-1)
    return np.where(painted, nearest.argmin(axis=-1) @ (1, 7), -1)


@pytest.mark.parametrize("crowd", [False, True])
@pytest.mark.parametrize("mosaic", [0.0, 1.0])
@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_painted_boxes_land_where_the_box_says(monkeypatch, mosaic, strength, crowd):
    monkeypatch.setattr(module, "_colour", lambda strength: None)
    images, content, boxes, crowds, offsets = _painted(crowd)
    augment = Augment(mosaic=mosaic, strength=strength, horizontal_flip=0.5, vertical_flip=0.5)
    augmenter = Augmenter(augment, images, content, boxes, crowds, offsets)
    out = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    checked = dropped = 0
    for number in range(80):
        found, rows = augmenter.sample(number % COUNT, np.random.default_rng(number), mosaic=True, out=out)
        assert (found[:, :2] >= 0).all()
        assert (found[:, 2:] <= (WIDTH, HEIGHT)).all()
        codes = _codes(out)
        for i in np.union1d(codes[codes >= 0], rows).tolist():
            mask = (codes == i).astype(np.uint8)
            hits = np.flatnonzero(rows == i)
            parts = cv2.connectedComponentsWithStats(mask)[2][1:, cv2.CC_STAT_AREA]
            if len(hits) > 1 or (parts > 4).sum() > 1:  # the same image twice in a mosaic
                continue
            if len(hits) == 1:
                x, y, width, height = cv2.boundingRect(mask)
                assert np.abs(np.array([x, y, x + width, y + height]) - found[hits[0]]).max() <= 1.5
                checked += 1
            elif crowd:
                assert min(cv2.boundingRect(mask)[2:]) <= MIN_SIDE + 1
            else:
                whole = (boxes[i, 2:] - boxes[i, :2]).prod()
                assert mask.sum() <= 0.25 * whole * MOST_AREA + 20
                dropped += 1
    assert checked >= 50
    if mosaic and not crowd:
        assert dropped > 0


def test_without_any_change_the_sample_is_the_cached_image():
    images, content, boxes, crowds, offsets = _painted(False)
    nothing = Augment(mosaic=0, strength=0, horizontal_flip=0)
    augmenter = Augmenter(nothing, images, content, boxes, crowds, offsets)
    out = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    found, rows = augmenter.sample(7, np.random.default_rng(0), mosaic=True, out=out)
    assert np.array_equal(out, images[7])
    assert np.array_equal(found, boxes[7:8])
    assert rows.tolist() == [7]


def test_probabilities_are_kept():
    images, content, boxes, crowds, offsets = _painted(False)
    augmenter = Augmenter(
        Augment(mosaic=0, strength=0, horizontal_flip=0.3, vertical_flip=0.6), images, content, boxes, crowds, offsets
    )
    out = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    flips = []
    for number in range(600):
        found, _ = augmenter.sample(0, np.random.default_rng(number), mosaic=True, out=out)
        flips.append(found[0, :2] != boxes[0, :2])
    horizontal, vertical = np.mean(flips, axis=0)
    assert 0.22 < horizontal < 0.38
    assert 0.52 < vertical < 0.68


def test_colour_changes_with_strength_and_by_seed_alone():
    images, content, boxes, crowds, offsets = _painted(False)
    still = {"mosaic": 0.0, "horizontal_flip": 0.0}
    out, again = np.empty((2, HEIGHT, WIDTH, 3), np.uint8)
    # Where the geometry leaves the image as it is, only the colour differs.
    weak, strong = [], []
    for strength, changes in ((0.1, weak), (1.0, strong)):
        augmenter = Augmenter(Augment(strength=strength, **still), images, content, boxes, crowds, offsets)
        other = Augmenter(Augment(strength=strength, **still), images, content, boxes, crowds, offsets)
        for number in range(60):
            found, _ = augmenter.sample(0, np.random.default_rng(number), mosaic=True, out=out)
            other.sample(3, np.random.default_rng(number + 1), mosaic=True, out=again)
            other.sample(0, np.random.default_rng(number), mosaic=True, out=again)
            assert np.array_equal(out, again)
            if np.array_equal(found[0], boxes[0]):
                changes.append(np.abs(out.astype(int) - images[0]).mean())
    assert len(weak) > 5
    assert 0 < np.mean(weak) < np.mean(strong)


def test_images_without_boxes():
    images, content, *_ = _painted(False)
    none = np.zeros(COUNT + 1, np.int64)
    augmenter = Augmenter(Augment(mosaic=0.5), images, content, np.zeros((0, 4)), np.zeros(0, bool), none)
    out = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    for number in range(10):
        found, rows = augmenter.sample(0, np.random.default_rng(number), mosaic=True, out=out)
        assert found.shape == (0, 4)
        assert rows.shape == (0,)


def test_importing_asked_no_package_index():
    assert os.environ["NO_ALBUMENTATIONS_UPDATE"] == "1"
