"""Finding the images that a user names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from tuner.config.errors import DataError, listed
from tuner.data.images import IMAGE_SUFFIXES


def find_images(paths: Sequence[Path], *, apart_from: Path | None = None) -> tuple[list[Path], list[str]]:
    """The image files among paths, each once; folders give the images in them and in their folders, sorted by name.

    Args:
        paths: Files and folders.
        apart_from: A folder that is left out where it lies in one of these, as that of earlier results.

    Returns:
        The files, and a sentence on each folder in which something else was passed over (but for what is hidden).

    Raises:
        DataError: A path does not exist, or there is no image in a folder.
    """
    found: list[Path] = []
    notes: list[str] = []
    for path in paths:
        if path.is_dir():
            inside, others = _walk(path, apart_from)
            if not inside:
                there = f"; there are {listed(others)}" if others else ""
                raise DataError(
                    f"{path}: no images in this folder{there}",
                    hint=f"Known: {', '.join(IMAGE_SUFFIXES)}. Links to folders are named on their own.",
                )
            if others:
                notes.append(f"{path}: passed over: {listed(others)}")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise DataError(f"{path}: no such image or folder")
    return list(dict.fromkeys(found)), notes


def _walk(top: Path, apart_from: Path | None) -> tuple[list[Path], list[str]]:
    """The images in a folder, those of its folders behind its own, and the names of what else there is.

    Links to folders are passed over, as they may lead back to where they are.
    """
    found: list[Path] = []
    others: list[str] = []
    visible = sorted(path for path in top.iterdir() if not path.name.startswith("."))
    for path in visible:
        if path.is_dir():
            if path.is_symlink() or (apart_from is not None and path.resolve() == apart_from.resolve()):
                others.append(f"{path.name}/")
        elif path.suffix.lower() in IMAGE_SUFFIXES:
            found.append(path)
        else:
            others.append(path.name)
    for path in visible:
        if path.is_dir() and f"{path.name}/" not in others:
            inside, more = _walk(path, apart_from)
            found += inside
            others += [f"{path.name}/{name}" for name in more]
    return found, others


def picture_names(paths: Sequence[Path]) -> list[str]:
    """A name without suffix for the picture of each image.

    Where images in several folders share a name, their folders stand before it; what is equal still is numbered.
    """
    folders: dict[str, set[Path]] = {}
    for path in paths:
        folders.setdefault(path.stem, set()).add(path.parent.absolute())
    shared = {stem: os.path.commonpath(inside) for stem, inside in folders.items()}
    names: dict[str, None] = {}
    for path in paths:
        first = "-".join([*path.parent.absolute().relative_to(shared[path.stem]).parts, path.stem])
        name, number = first, 2
        while name in names:
            name, number = f"{first}-{number}", number + 1
        names[name] = None
    return list(names)
