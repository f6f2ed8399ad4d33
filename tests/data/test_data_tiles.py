"""Tiles cover the image, overlap as asked, and boxes come back to where they were."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tuner.config.trial import Tiles
from tuner.data.tiles import tile_starts, windows_of

every_way = st.builds(Tiles, size=st.integers(32, 300), overlap=st.floats(0.0, 0.9))


@given(length=st.integers(1, 3000), tiles=every_way)
def test_tiles_cover_a_side_and_overlap(length, tiles):
    starts = tile_starts(length, tiles)
    ends = np.minimum(starts + tiles.size, length)
    assert starts[0] == 0
    assert ends[-1] == length
    assert (np.diff(starts) > 0).all()
    if len(starts) > 1:
        assert (ends - starts == tiles.size).all()
        assert (ends[:-1] - starts[1:] >= min(tiles.size - 1, tiles.size * tiles.overlap) - 1e-9).all()
        # One tile less could not do it.
        step = max(1, tiles.size - int(np.ceil(tiles.size * tiles.overlap)))
        assert tiles.size + (len(starts) - 2) * step < length


@given(width=st.integers(1, 700), height=st.integers(1, 700), tiles=every_way)
def test_windows_cover_every_pixel(width, height, tiles):
    windows = windows_of(width, height, tiles)
    assert windows[0].tolist() == [0, 0, width, height]
    assert (windows[:, :2] >= 0).all()
    assert (windows[:, 2:] <= [width, height]).all()
    assert (windows[:, 2:] > windows[:, :2]).all()
    if len(windows) == 1:
        assert max(width, height) <= tiles.size
        return
    seen = np.zeros((height, width), dtype=bool)
    for left, top, right, bottom in windows[1:]:
        seen[top:bottom, left:right] = True
    assert seen.all()


@given(data=st.data(), tiles=every_way, length=st.integers(33, 2000))
def test_a_small_object_lies_whole_in_a_tile(data, tiles, length):
    size = data.draw(st.integers(1, max(1, int(tiles.size * tiles.overlap))))
    start = data.draw(st.integers(0, max(0, length - size)))
    starts = tile_starts(length, tiles)
    assert ((starts <= start) & (start + size <= np.maximum(starts + tiles.size, length * (len(starts) == 1)))).any()


@pytest.mark.parametrize(("side", "overlap"), [(10, 0.2), (-1, 0.2), (640, 0.95), (640, -0.1)])
def test_what_cannot_be(side, overlap):
    with pytest.raises(ValidationError):
        Tiles(size=side, overlap=overlap)


def test_without_tiles_there_is_one_window():
    assert windows_of(900, 700, Tiles()).tolist() == [[0, 0, 900, 700]]
