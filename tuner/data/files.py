"""The files and images of a folder and of those under it, through links to folders, too."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tuner.data.images import IMAGE_SUFFIXES


def files_under(folder: Path) -> Iterator[Path]:
    """All files in a folder and under it, in order; hidden folders are left out.

    Links to folders are followed, but for those into the folder itself or to one above, whose files would come twice.
    """
    for parent, children, names in os.walk(folder, followlinks=True):
        shown = (child for child in sorted(children) if not child.startswith("."))
        children[:] = [child for child in shown if not _leads_back(Path(parent, child), folder)]
        yield from (Path(parent) / name for name in sorted(names))


def _leads_back(path: Path, top: Path) -> bool:
    """Whether a path under a folder is a link to one that is looked through anyway, or to one that it is in."""
    if not path.is_symlink():
        return False
    target = path.resolve()
    return target.is_relative_to(top.resolve()) or any(above.resolve().is_relative_to(target) for above in path.parents)


def images_under(folder: Path) -> list[Path]:
    """The image files of a folder and of those under it, by their endings; hidden ones are left out."""
    return [file for file in files_under(folder) if file.name.lower().endswith(IMAGE_SUFFIXES) and file.name[0] != "."]
