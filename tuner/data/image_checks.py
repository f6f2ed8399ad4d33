"""Checks of image files, with what was found in words a user can act on."""

from __future__ import annotations

import glob
import os
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from threading import Lock
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from tuner.config.errors import SHOWN, DataError, listed
from tuner.data.images import image_size, read_image, seems_cut_off, turned_seen, turned_unseen

LARGE = 16_000_000
"""Pixels of an image of which no two are decoded at a time: decoding takes 6 bytes for each or more."""
_ONE_LARGE = Lock()


def missing_files(paths: Sequence[Path]) -> list[Path]:
    """Those of the paths that are no files, names that no file can have among them."""
    return [path for path in paths if not os.path.isfile(path)]  # noqa: PTH113 (twice as fast, and never raises)


def check_files_exist(folder: Path, names: Sequence[str], annotations: Path) -> None:
    """Raise a `DataError` that counts and names the image files that are not in a folder, and says what may be why.

    Args:
        folder: Where the names start.
        names: Of the files.
        annotations: The file that lists them, for the message.
    """
    missing = missing_files([folder / name for name in names])
    if missing:
        raise DataError(
            f"{annotations}: {len(missing)} of {len(names)} image files are missing: {listed(missing)}",
            hint=_why_missing(folder, missing[0]),
        )


def _why_missing(folder: Path, path: Path) -> str:
    """What to do about a missing image, whose name may be encoded or end otherwise, or be of another machine."""
    composed = unicodedata.normalize("NFC", path.name)
    # Path.is_dir raises where a name is longer than any folder's.
    siblings = sorted(path.parent.iterdir()) if os.path.isdir(path.parent) else []  # noqa: PTH112
    alike = (file for file in siblings if unicodedata.normalize("NFC", file.name) == composed)
    twin = next((file for file in alike if file.is_file()), None)
    if twin is not None:
        return (
            f"{twin} is there: it looks the same, but its accents are encoded otherwise (Unicode NFC and NFD, as macOS "
            "and others write them). Rename the files, or write their names into the annotation file as they are."
        )
    there = next(folder.rglob(f"{glob.escape(Path(unquote(path.name)).stem)}.*"), None)
    if there is None:
        return "Check the image folder (`data.images`, or --images): names in the annotation file start from it."
    return (
        f"{there} is there: let file names in the annotation file be paths from the image folder (`data.images`, or "
        "--images), letter for letter, with no folder of another machine, no %20, and the same ending."
    )


def header_sizes(paths: Sequence[Path]) -> NDArray[np.int32]:
    """(N, 2) int32, (width, height) after EXIF rotation, from the headers of image files.

    Raises:
        DataError: Files cannot be read, or were cut off; names the first ones.
    """

    def size_or_fault(path: Path) -> tuple[int, int] | str:
        try:
            return decoded_size(path) if seems_cut_off(path) else image_size(path)
        except DataError as error:
            return error.message

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(size_or_fault, paths))
    raise_unreadable([fault for fault in found if isinstance(fault, str)])
    return np.array(found, np.int32).reshape(-1, 2)


def decoded_size(path: Path) -> tuple[int, int]:
    """(width, height) in pixels after EXIF rotation of an image file that is decoded to its end.

    Threads may ask for many at a time: images of more than `LARGE` pixels wait for one another.

    Raises:
        DataError: The file cannot be read; names it.
    """
    size = image_size(path)
    with _ONE_LARGE if size[0] * size[1] > LARGE else nullcontext():
        height, width, _ = read_image(path).shape
    return width, height


def check_sizes(paths: Sequence[Path], stated: NDArray[np.int32], found: NDArray[np.int32]) -> None:
    """Raise a `DataError` where stated sizes differ from those of the files, both (N, 2), after EXIF rotation."""
    wrong = np.flatnonzero((stated != found).any(axis=1)).tolist()
    if not wrong:
        return
    texts = [f"{paths[i]} is {found[i, 0]} x {found[i, 1]}, not {stated[i, 0]} x {stated[i, 1]}" for i in wrong[:SHOWN]]
    hint = "The boxes may not fit these files: use the images that were annotated, or mend width and height."
    swapped = all((stated[i, ::-1] == found[i]).all() for i in wrong)
    by_exif = {turned_seen(paths[i]) for i in wrong} if swapped else set()
    if by_exif == {True}:
        hint = (
            "The files carry an EXIF rotation that the annotations do not know: rotate the pixels or remove the "
            "tag, whichever the boxes were drawn on."
        )
    elif by_exif == {False}:
        hint = "Width and height are swapped: mend them in the annotation file, if its boxes fit the images."
    raise DataError(
        f"{len(wrong)} of {len(paths)} images have another size than the annotation file says: {listed(texts)}",
        hint=hint,
    )


def turn_notes(paths: Sequence[Path]) -> list[str]:
    """A sentence where EXIF orientations turn images that can be read in a way that their sizes cannot check."""
    each = list(dict.fromkeys(paths))  # an image may be in two splits
    with ThreadPoolExecutor(8) as pool:
        unseen = pool.map(turned_unseen, each)
        turned = [str(path) for path, is_turned in zip(each, unseen, strict=True) if is_turned]
    if not turned:
        return []
    return [
        f"{len(turned)} images are turned or mirrored by their EXIF data: {listed(turned)}; their boxes are taken to "
        "be drawn on the turned image, as viewers show it"
    ]


def raise_unreadable(faults: Sequence[str]) -> None:
    """Raise a `DataError` that counts and names unreadable images; nothing where there is none."""
    if len(faults) == 1:
        raise DataError(faults[0], hint="Replace the file, or remove the image from the annotation file.")
    if faults:
        raise DataError(
            f"{len(faults)} images cannot be read: {listed(faults)}",
            hint="Replace the files, or remove the images from the annotation file.",
        )
