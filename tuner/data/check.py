"""Checks of boxes and image files, with what was found in words a user can act on."""

from __future__ import annotations

import glob
import os
import unicodedata
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from threading import Lock
from typing import Literal
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from tuner.config.base import Frozen
from tuner.config.errors import DataError
from tuner.data.images import image_size, read_image, seems_cut_off, turned_seen, turned_unseen

TOLERANCE = 0.5
"""Pixels that a box may reach over the image's edge without being reported: annotation tools round."""
SHOWN = 5
"""Examples in a message."""
LARGE = 16_000_000
"""Pixels of an image of which no two are decoded at a time: decoding takes 6 bytes for each or more."""
_ONE_LARGE = Lock()


class BoxReport(Frozen):
    """What was found wrong with the boxes of one split, and what was done about it.

    Attributes:
        split: Name of the split.
        boxes: Boxes in the annotation file.
        outside: Boxes that reach over the image's edge by more than `TOLERANCE`.
        without_area: Boxes whose width or height in the file is zero or negative.
        clipped: Boxes that were cut at the edge and kept (repair only).
        doubled: Boxes that stand before already, with the same image and class.
        dropped: Boxes that were left out: without area, in the file or after clipping, or doubled (repair only).
        examples: The first bad boxes, each in words.
        from_polygons: Boxes that the file does not have, made around its polygons.
        corners: Whether there are bad boxes and all boxes would fit, were they [x1, y1, x2, y2].
    """

    split: str
    boxes: int
    outside: int = 0
    without_area: int = 0
    doubled: int = 0
    clipped: int = 0
    dropped: int = 0
    examples: tuple[str, ...] = ()
    from_polygons: int = 0
    corners: bool = False

    @property
    def clean(self) -> bool:
        """Whether every box has an area, lies in its image and is there once."""
        return self.outside == self.without_area == self.doubled == 0

    def text(self) -> str:
        """The report as one or more lines for the terminal."""
        if self.clean:
            return f"{self.split}: {self.boxes} boxes, all with an area and inside their images"
        lines = (
            f"{self.split}: of {self.boxes} boxes {self.outside} outside the image, {self.without_area} without area"
        )
        if self.doubled:
            lines += f", {self.doubled} there twice"
        if self.clipped or self.dropped:
            lines += f"; {self.clipped} clipped, {self.dropped} dropped"
        doubt = ["  All would fit if `bbox` were [x1, y1, x2, y2]: COCO's is [x, y, width, height]."]
        return "\n".join([lines, *(f"  {example}" for example in self.examples), *doubt[: self.corners]])


def check_boxes(
    boxes: NDArray[np.float64],
    sizes: NDArray[np.int32],
    *,
    split: str,
    policy: Literal["refuse", "repair"],
    describe: Sequence[str] | None = None,
    copies: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.bool_], BoxReport]:
    """Find boxes outside their image or without area; repair them, and drop copies, where that is asked for.

    Args:
        boxes: (M, 4) float64, COCO xywh in original pixels.
        sizes: (M, 2) int32, (width, height) of each box's image.
        split: Name for the report.
        policy: "refuse" changes nothing (the caller raises), "repair" clips and drops.
        describe: M names for the examples; default: the box's position.
        copies: (M,) bool, boxes that stand before already; default: none.

    Returns:
        Boxes (M, 4), of which only the bad ones differ; (M,) bool, which to keep; the report.
    """
    with np.errstate(over="ignore"):  # then it ends outside, which is told below
        ends = boxes[:, :2] + boxes[:, 2:]
    without_area = np.asarray((boxes[:, 2:] <= 0).any(axis=1), np.bool_)
    beyond = (boxes[:, :2] < -TOLERANCE) | (ends > sizes + TOLERANCE)
    outside = np.asarray(beyond.any(axis=1), np.bool_) & ~without_area
    doubled = ~without_area & (False if copies is None else copies)
    bad = np.flatnonzero(without_area | outside)
    repaired: NDArray[np.float64] = boxes
    keep: NDArray[np.bool_] = np.ones(len(boxes), np.bool_)
    if policy == "repair" and bad.size:
        start = np.clip(boxes[outside, :2], 0, sizes[outside])
        clipped = np.concatenate([start, np.clip(ends[outside], 0, sizes[outside]) - start], axis=1)
        repaired = boxes.copy()
        repaired[outside] = clipped
        keep = np.asarray((repaired[:, 2:] > 0).all(axis=1), np.bool_)
    if policy == "repair":
        keep &= ~doubled
    examples = []
    for i in np.flatnonzero(without_area | outside | doubled)[:SHOWN].tolist():
        name = describe[i] if describe is not None else f"box {i}"
        fault = "has no area" if without_area[i] else "is outside" if outside[i] else "is there twice"
        width, height = sizes[i].tolist()
        bbox = ", ".join(f"{value:g}" for value in boxes[i])
        examples.append(f"{name}: bbox [{bbox}] {fault} (image {width} x {height})")
    repairing = policy == "repair"
    report = BoxReport(
        split=split,
        boxes=len(boxes),
        outside=int(outside.sum()),
        without_area=int(without_area.sum()),
        doubled=int(doubled.sum()),
        clipped=int((outside & keep).sum()) if repairing else 0,
        dropped=int((~keep).sum()),
        examples=tuple(examples),
        corners=bool(bad.size) and bool(((boxes[:, 2:] > boxes[:, :2]) & (boxes[:, 2:] <= sizes + TOLERANCE)).all()),
    )
    return repaired, keep, report


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
        found = list(pool.map(size_or_fault, paths, chunksize=64))
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
        unseen = pool.map(turned_unseen, each, chunksize=64)
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


def listed(items: Iterable[object]) -> str:
    """The first few items in one line, and how many more there are."""
    texts = [str(item) for item in items]
    more = f" and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return "; ".join(texts[:SHOWN]) + more
