from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.coco_files import coco, names_of, write_json
from tuner.config.study import DataSpec
from tuner.data.alike import alike_notes
from tuner.data.coco import load_dataset


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize(("still", "noted"), [(30, True), (1, False)])
def test_frames_of_one_video_on_both_sides_are_pointed_out(
    tmp_path: Path, suffix: str, still: int, noted: bool
) -> None:
    """Every fifth of 30 frames is in val; a camera shows one scene for so many frames."""
    rng = np.random.default_rng(0)
    names = [f"frame_{i}{suffix}" for i in range(1, 31)]
    (tmp_path / "images").mkdir()
    for i, name in enumerate(names):
        if i % still == 0:
            scene = cv2.resize(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8), (96, 64))
        frame = scene.copy()
        frame[20:30, 2 * i : 2 * i + 8] = 255
        cv2.imwrite(str(tmp_path / "images" / name), frame)
    write_json(tmp_path / "train.json", coco([name for i, name in enumerate(names) if i % 5]))
    write_json(tmp_path / "val.json", coco(names[::5]))
    dataset = load_dataset(DataSpec(root=tmp_path, train="train.json", val="val.json"))
    notes = alike_notes(dataset.train, dataset.val)
    assert len(notes) == noted
    if noted:
        assert notes[0].startswith("6 of 6 images of val that were looked at are nearly the same as one of train")
        assert f"frame_1{suffix} and " in notes[0]


def test_images_without_a_pattern_and_those_of_both_splits_are_no_frames(tmp_path: Path) -> None:
    names = names_of("x", 8)
    (tmp_path / "images").mkdir()
    for name in names:
        cv2.imwrite(str(tmp_path / "images" / name), np.full((64, 96, 3), 90, np.uint8))
    write_json(tmp_path / "all.json", coco(names))
    dataset = load_dataset(DataSpec(root=tmp_path, train="all.json", val="all.json"))
    assert alike_notes(dataset.train, dataset.val) == []
