"""Tiles cover the image, overlap as asked, and boxes come back to where they were."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.config.errors import ConfigError
from tuner.data.tiles import Tiling, tile_starts, tiles_of

tilings = st.builds(Tiling, side=st.integers(32, 300), overlap=st.floats(0.0, 0.9))


@given(length=st.integers(1, 3000), tiling=tilings)
def test_tiles_cover_a_side_and_overlap(length, tiling):
    starts = tile_starts(length, tiling)
    ends = np.minimum(starts + tiling.side, length)
    assert starts[0] == 0
    assert ends[-1] == length
    assert (np.diff(starts) > 0).all()
    if len(starts) > 1:
        assert (ends - starts == tiling.side).all()
        assert (ends[:-1] - starts[1:] >= min(tiling.side - 1, tiling.side * tiling.overlap) - 1e-9).all()
        # One tile less could not do it.
        step = max(1, tiling.side - int(np.ceil(tiling.side * tiling.overlap)))
        assert tiling.side + (len(starts) - 2) * step < length


@given(width=st.integers(1, 700), height=st.integers(1, 700), tiling=tilings)
def test_windows_cover_every_pixel(width, height, tiling):
    windows = tiles_of(width, height, tiling)
    assert windows[0].tolist() == [0, 0, width, height]
    assert (windows[:, :2] >= 0).all()
    assert (windows[:, 2:] <= [width, height]).all()
    assert (windows[:, 2:] > windows[:, :2]).all()
    if len(windows) == 1:
        assert max(width, height) <= tiling.side
        return
    seen = np.zeros((height, width), dtype=bool)
    for left, top, right, bottom in windows[1:]:
        seen[top:bottom, left:right] = True
    assert seen.all()


@given(data=st.data(), tiling=tilings, length=st.integers(33, 2000))
def test_a_small_object_lies_whole_in_a_tile(data, tiling, length):
    size = data.draw(st.integers(1, max(1, int(tiling.side * tiling.overlap))))
    start = data.draw(st.integers(0, max(0, length - size)))
    starts = tile_starts(length, tiling)
    assert ((starts <= start) & (start + size <= np.maximum(starts + tiling.side, length * (len(starts) == 1)))).any()


@pytest.mark.parametrize(("side", "overlap"), [(10, 0.2), (640, 1.0), (640, -0.1)])
def test_what_cannot_be(side, overlap):
    with pytest.raises(ConfigError):
        Tiling(side, overlap)
