"""Finding the images that a user names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tuner.config.errors import DataError
from tuner.data.check import listed

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".jp2", ".tif", ".tiff", ".webp")


def find_images(paths: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """The image files among paths, each once; folders give the images directly in them, sorted by name.

    Returns:
        The files, and a sentence on each folder in which something else was passed over (but for hidden files).

    Raises:
        DataError: A path does not exist, or there is no image in a folder.
    """
    found: list[Path] = []
    notes: list[str] = []
    for path in paths:
        if path.is_dir():
            visible = sorted(p for p in path.iterdir() if not p.name.startswith("."))
            inside = [p for p in visible if p.suffix.lower() in IMAGE_SUFFIXES and not p.is_dir()]
            chosen = set(inside)
            others = [f"{p.name}/" if p.is_dir() else p.name for p in visible if p not in chosen]
            if not inside:
                there = f"; there are {listed(others)}" if others else ""
                raise DataError(
                    f"{path}: no images in this folder{there}",
                    hint=f"Known: {', '.join(IMAGE_SUFFIXES)}. Folders within it are named on their own.",
                )
            if others:
                notes.append(f"{path}: {len(others)} files and folders passed over: {listed(others)}")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise DataError(f"{path}: no such image or folder")
    return list(dict.fromkeys(found)), notes


def picture_names(paths: Sequence[Path]) -> list[str]:
    """A name without suffix for the picture of each image, numbered where images share a name."""
    names: dict[str, None] = {}
    for path in paths:
        name, number = path.stem, 2
        while name in names:
            name, number = f"{path.stem}-{number}", number + 1
        names[name] = None
    return list(names)
