"""Names of pictures, where images share theirs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuner.export.find_images import picture_names


def test_folders_and_numbers_tell_images_of_one_name_apart() -> None:
    paths = [Path(name) for name in ("/a/b/x.jpg", "/a/c/x.jpg", "/a/c/x.png", "/a/c/y.jpg")]
    assert picture_names(paths) == ["b-x", "c-x", "c-x-2", "y"]


@pytest.mark.timeout(60)  # 0.5 s; the square of the number of images would take half an hour
def test_as_many_images_of_one_name_as_a_camera_has_folders() -> None:
    paths = [Path(f"/recordings/{number}/frame.jpg") for number in range(20_000)]
    assert picture_names(paths)[-1] == "19999-frame"
