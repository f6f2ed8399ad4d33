import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tuner.data.coco import load_split
from tuner.data.letterbox import (
    PAD_VALUE,
    STRIDE,
    Canvas,
    canvas_for,
    content_rects,
    letterbox,
    placements,
    to_canvas,
)

sides = st.integers(1, 4000)
shapes = st.lists(st.tuples(sides, sides), min_size=1, max_size=8)
canvases = st.builds(Canvas, st.integers(1, 20).map(lambda n: 32 * n), st.integers(1, 20).map(lambda n: 32 * n))


@pytest.mark.parametrize(
    ("sizes", "image_size", "canvas"),
    [
        ([(640, 480)], 320, (320, 256)),
        ([(640, 480)], 256, (256, 192)),
        ([(640, 480)], 640, (640, 480)),
        ([(480, 640)], 640, (480, 640)),
        ([(500, 500)], 320, (320, 320)),
        ([(1920, 1080)], 640, (640, 352)),
        ([(640, 480), (480, 640)], 640, (640, 640)),
        ([(640, 480)] * 9 + [(480, 640)], 640, (640, 480)),
        ([(2000, 10)], 320, (320, 32)),
        ([(640, 480)], 300, (320, 256)),
    ],
)
def test_the_canvas_follows_the_shapes(sizes, image_size, canvas):
    assert canvas_for(np.array(sizes), image_size) == canvas


@given(shapes, st.integers(32, 1500))
def test_a_canvas_is_made_of_strides_and_as_long_as_asked_for(sizes, image_size):
    canvas = canvas_for(np.array(sizes), image_size)
    assert canvas.width % STRIDE == canvas.height % STRIDE == 0
    assert image_size <= max(canvas) < image_size + STRIDE


def test_the_canvas_of_real_data(real_spec):
    split, _ = load_split(real_spec, "train")
    canvas = canvas_for(split.sizes, 320)
    covered = placements(split.sizes, canvas)[:, 0] ** 2 * split.sizes.prod(axis=1) / (canvas.width * canvas.height)
    square = split.sizes.min(axis=1) / split.sizes.max(axis=1)
    assert canvas == (320, 256)
    assert covered.mean() > square.mean() + 0.05


@given(shapes, canvases, st.data())
def test_boxes_lie_on_the_canvas_in_proportion(sizes, canvas, data):
    sizes = np.array(sizes)
    placed = placements(sizes, canvas)
    corners = data.draw(arrays(np.float64, (len(sizes), 2, 2), elements=st.floats(0, 1)))
    boxes = np.sort(corners, axis=1).reshape(-1, 4) * np.tile(sizes, 2)
    inside = to_canvas(boxes, placed)
    limits = np.array([canvas.width, canvas.height] * 2)
    assert (inside >= -0.5 - 1e-6).all()
    assert (inside <= limits + 0.5 + 1e-6).all()
    ratio = (boxes[:, 2:] - boxes[:, :2]) * placed[:, :1]
    assert np.allclose(inside[:, 2:] - inside[:, :2], ratio, atol=1e-6)


@given(shapes, canvases)
@example([(4000, 1)], Canvas(32, 32))
def test_content_lies_in_the_canvas_and_touches_two_sides(sizes, canvas):
    rects = content_rects(np.array(sizes), canvas)
    assert (rects[:, :2] >= 0).all()
    assert (rects[:, 2:] <= canvas).all()
    assert (rects[:, 2:] > rects[:, :2]).all()
    assert ((rects[:, 2:] - rects[:, :2]) == canvas).any(axis=1).all()
    placed = placements(np.array(sizes), canvas)
    assert np.array_equal(placed[:, 1:], rects[:, :2])


@given(st.integers(1, 300), st.integers(1, 300), canvases)
@example(300, 1, Canvas(32, 32))
@example(3, 2, Canvas(64, 32))
def test_letterboxed_pixels_lie_in_the_content_rectangle(width, height, canvas):
    image = np.full((height, width, 3), 255, np.uint8)
    result = letterbox(image, canvas)
    expected = np.full((canvas.height, canvas.width, 3), PAD_VALUE, np.uint8)
    left, top, right, bottom = content_rects((width, height), canvas)
    expected[top:bottom, left:right] = 255
    assert np.array_equal(result, expected)


@given(st.integers(60, 400), st.integers(60, 400), st.sampled_from([(320, 256), (128, 192), (96, 96)]))
def test_a_ramp_shows_that_the_scale_is_exact(width, height, shape):
    """The colour at a canvas pixel's centre is that of the original point which the placement says."""
    canvas = Canvas(*shape)
    ramp = np.zeros((height, width, 3), np.uint8)
    ramp[..., 0] = np.rint((np.arange(width) + 0.5) / width * 255)
    ramp[..., 1] = np.rint((np.arange(height) + 0.5) / height * 255)[:, None]
    result = letterbox(ramp, canvas).astype(float)
    left, top, right, bottom = content_rects((width, height), canvas)
    scale, x_shift, y_shift = placements((width, height), canvas)
    x = (np.arange(left, right) + 0.5 - x_shift) / scale
    y = (np.arange(top, bottom) + 0.5 - y_shift) / scale
    middle = (slice(top + 5, bottom - 5), slice(left + 5, right - 5))
    assert np.abs(result[middle][..., 0] - (x / width * 255)[None, 5:-5]).max() < 2.2
    assert np.abs(result[middle][..., 1] - (y / height * 255)[5:-5, None]).max() < 2.2
