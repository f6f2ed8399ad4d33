"""Files under a folder, and links in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuner.data.files import files_under, images_under


@pytest.fixture
def top(tmp_path: Path) -> Path:
    for name in ("top/a/1.jpg", "top/.hidden/2.jpg", "top/.3.jpg", "top/b.txt", "store/deep/4.PNG"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path / "top"


def names(top: Path) -> list[str]:
    return [str(file.relative_to(top)) for file in files_under(top)]


def test_links_to_folders_are_followed(top: Path) -> None:
    (top / "c").symlink_to(top.parent / "store")
    assert names(top) == [".3.jpg", "b.txt", "a/1.jpg", "c/deep/4.PNG"]
    assert images_under(top) == [top / "a/1.jpg", top / "c/deep/4.PNG"]


def test_the_folder_itself_may_be_a_link(top: Path) -> None:
    link = top.parent / "link"
    link.symlink_to(top)
    assert names(link) == [".3.jpg", "b.txt", "a/1.jpg"]


@pytest.mark.parametrize("target", [".", "..", "/", "a"])
def test_links_back_are_not(target: str, top: Path) -> None:
    (top / "again").symlink_to(top / target)
    assert names(top) == [".3.jpg", "b.txt", "a/1.jpg"]


def test_links_that_lead_to_one_another_come_to_an_end(top: Path) -> None:
    (top / "c").symlink_to(top.parent / "store")
    (top.parent / "store" / "other").symlink_to(top.parent / "rest")
    (top.parent / "rest").mkdir()
    (top.parent / "rest" / "back").symlink_to(top.parent / "store")
    assert names(top) == [".3.jpg", "b.txt", "a/1.jpg", "c/deep/4.PNG"]
