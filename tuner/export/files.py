"""Finding the images that a user names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tuner.config.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


def find_images(paths: Sequence[Path]) -> list[Path]:
    """The image files among paths, each once; folders give the images directly in them, sorted by name.

    Raises:
        DataError: A path does not exist, or there is no image in a folder.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
            if not inside:
                raise DataError(f"{path}: no images in this folder", hint=f"Known: {', '.join(IMAGE_SUFFIXES)}.")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise DataError(f"{path}: no such image or folder")
    return list(dict.fromkeys(found))


def picture_names(paths: Sequence[Path]) -> list[str]:
    """A JPEG name for each image, numbered where images share a name."""
    names: dict[str, None] = {}
    for path in paths:
        name, number = f"{path.stem}.jpg", 2
        while name in names:
            name, number = f"{path.stem}-{number}.jpg", number + 1
        names[name] = None
    return list(names)
