"""Finding the folder that the file names of an annotation file start from."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from tuner.config.errors import DataError
from tuner.data.image_checks import missing_files
from tuner.data.roles import ROLES

_LOOKED_UP = 20
"""Images of a split that are looked for in each folder."""


def image_folder(images: Path, annotation: Path, role: str, file_names: Sequence[str]) -> str:
    """The folder under `images` where an annotation file's images are; empty for `images` itself.

    The usual places come first: beside the annotation file, and folders that are named like it or like the split.
    Then any other folder, one under the annotation file's own or named like the split before the rest. Where no
    folder holds all images, the one that holds most of them is returned, empty where none holds any.

    Raises:
        DataError: Several folders hold the images, and nothing says which is meant.
    """
    few = file_names[:: max(1, len(file_names) // _LOOKED_UP)]

    def missing(folder: str) -> int:
        return len(missing_files([images / folder / name for name in few]))

    inside = os.path.relpath(annotation.parent.absolute(), images.absolute())
    named = re.search(r"(?:train|val|test)[a-z]*\d*", annotation.stem)
    beside = [] if inside.startswith("..") else [inside, f"{inside}/images", f"{inside}/data"]
    usual = ["", *beside, "images", annotation.parent.name, named.group() if named else "", *ROLES[role]]
    best = min(usual, key=missing)
    if not missing(best):
        return best if best != "." else ""
    others = {folder: missing(folder) for folder in _sub_folders(images)}
    least = min([missing(best), *others.values()])
    if least == len(few):
        return ""
    if least == missing(best):
        return best
    fitting = [folder for folder, count in others.items() if count == least]

    def far(folder: str) -> tuple[bool, bool]:
        words = re.split(r"[^a-z]+", folder.lower())
        return bool(beside) and not folder.startswith(f"{inside}/"), not set(words).intersection(ROLES[role])

    nearest = [folder for folder in fitting if far(folder) == min(map(far, fitting))]
    if len(nearest) > 1:
        raise DataError(
            f"the images of {annotation} are in {images / nearest[0]} and in {images / nearest[1]}",
            hint="Name the folder that is meant as --images.",
        )
    return nearest[0]


def _sub_folders(folder: Path) -> list[str]:
    """All folders under a folder, from there; links to folders are named, not followed; hidden ones are left out."""
    found = []
    for parent, children, _ in os.walk(folder):
        children[:] = sorted(child for child in children if not child.startswith("."))
        found += [os.path.relpath(f"{parent}/{child}", folder) for child in children]
    return found
