from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tuner.data.narrow_range import narrow_range_notes


@pytest.mark.parametrize(
    ("values", "kind", "noted"),
    [
        ([3000, 4095, 0], np.uint16, True),
        ([3000, 65535, 0], np.uint16, False),
        ([3, 4, 0], np.uint8, False),
    ],
)
def test_16_bit_images_that_use_a_small_part_of_their_range_are_noted(
    tmp_path: Path, values: list[int], kind: type, noted: bool
) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(len(values))]
    for path, value in zip(paths, values, strict=True):
        cv2.imwrite(str(path), np.full((8, 9), value, kind))
    notes = narrow_range_notes(paths)
    assert len(notes) == noted
    if noted:
        assert f"the largest value in 3 of them is 4095, in {paths[1]}: they are read as 0 to 16 of 255" in notes[0]
        assert "factor, up to 16," in notes[0]
