"""Data sets in the layouts of YOLO, for tests."""

from __future__ import annotations

from pathlib import Path

from tests.coco_files import names_of, write_images
from tuner.data.find_splits import FoundData, find_data


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def write_split(images: Path, labels: Path, prefix: str, count: int, line: str = "1 0.5 0.5 0.25 0.5\n") -> None:
    names = names_of(prefix, count)
    write_images(images, names)
    for name in names:
        write(labels / f"{name[:-4]}.txt", line)


def find(root: Path) -> FoundData:
    return find_data(root, [root], None, None, stem=root / "study")


def content_of(found: FoundData, role: str) -> dict:
    return found.files[getattr(found.data, role)]


def counts_of(found: FoundData) -> dict[str, int]:
    """Images of each split, by the folder in which they are."""
    roles = [role for role in ("train", "val", "test") if getattr(found.data, role) is not None]
    return {role: len(content_of(found, role)["images"]) for role in roles}
