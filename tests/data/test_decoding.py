"""Large images are decoded one at a time, whichever threads ask."""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from time import sleep
from types import SimpleNamespace
from typing import cast

import cv2
import numpy as np
import pytest

from tuner.data import image_checks
from tuner.data.image_checks import header_sizes
from tuner.export.model import ModelConfig
from tuner.export.predicting import unlabelled_split


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images were being decoded at each decoding; images of more than 100 pixels are large."""
    real, seen, running, counting = image_checks.read_image, [], [0], Lock()

    def watched(path: Path):
        with counting:
            running[0] += 1
            seen.append(running[0])
        sleep(0.02)
        image = real(path)
        with counting:
            running[0] -= 1
        return image

    monkeypatch.setattr(image_checks, "read_image", watched)
    monkeypatch.setattr(image_checks, "LARGE", 100)
    return seen


def written(folder: Path, side: int) -> list[Path]:
    paths = [folder / f"{i}.jpg" for i in range(12)]
    for path in paths:
        cv2.imwrite(str(path), np.zeros((side, side + 1, 3), np.uint8))
        # Longer than what cameras write behind the mark of the end, so that it seems to be cut off.
        path.write_bytes(path.read_bytes() + b"\0" * 5000)
    return paths


def test_large_images_wait_for_one_another(tmp_path: Path, at_once: list[int]) -> None:
    assert header_sizes(written(tmp_path, 20)).tolist() == [[21, 20]] * 12
    assert at_once == [1] * 12


def test_small_ones_do_not(tmp_path: Path, at_once: list[int]) -> None:
    assert header_sizes(written(tmp_path, 8)).tolist() == [[9, 8]] * 12
    assert max(at_once) > 1


def test_images_to_predict_on_wait_too(tmp_path: Path, at_once: list[int]) -> None:
    info = cast(ModelConfig, SimpleNamespace(classes=("cell",), category_ids=(1,)))
    split, faults = unlabelled_split(written(tmp_path, 20), info)
    assert (split.sizes.tolist(), faults) == ([[21, 20]] * 12, [])
    assert at_once == [1] * 12
