"""Columns of a COCO file's rows as arrays, with every fault named by its row."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import NDArray

from tuner.config.errors import DataError, listed

Rows: TypeAlias = list[dict[str, Any]]

_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")
"""Unicode's control characters, halves of characters, and separators of lines and paragraphs."""


def rows_of(content: dict[str, Any], key: str, path: Path) -> Rows:
    """The list of objects under a key of an annotation file; `path` is for messages, here and below."""
    rows = content.get(key)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        found = "missing" if key not in content else "not a list of objects"
        raise DataError(f"{path}: {key!r} is {found}", hint="A COCO annotation file lists one object for each.")
    return rows


def column(rows: Rows, key: str, what: str, path: Path) -> list[Any]:
    """What each row has under a key; raises a `DataError` that names the first without one."""
    try:
        return [row[key] for row in rows]
    except KeyError:
        at = next(i for i, row in enumerate(rows) if key not in row)
        known = f" (id {rows[at]['id']!r})" if "id" in rows[at] else ""
        raise DataError(
            f"{path}: {what} number {at + 1}{known} has no {key!r}", hint=f"COCO asks for one in every {what}."
        ) from None


def ids_of(rows: Rows, key: str, what: str, path: Path) -> NDArray[np.int64]:
    """Ids, (len(rows),) int64; 7.0, as some tools write it, is 7."""
    values = column(rows, key, what, path)
    if set(map(type, values)) == {int}:  # nearly always
        with suppress(OverflowError):
            return np.array(values, np.int64)
    at = next((i for i, value in enumerate(values) if not _whole(value)), None)
    if at is not None:
        raise DataError(
            f"{path}: {what} number {at + 1} has {key} {values[at]!r}, expected a whole number",
            hint="Write ids as numbers without quotes, the same wherever they are named; COCO knows no others.",
        )
    return np.array([int(value) for value in values], np.int64)


def texts_of(rows: Rows, key: str, what: str, path: Path) -> list[str]:
    """Texts that are not empty, such as names."""
    values = column(rows, key, what, path)
    for at, value in enumerate(values):
        if not isinstance(value, str) or not value:
            raise DataError(f"{path}: {what} number {at + 1} has {key} {value!r}, expected a text")
    return values


def refuse_unclean(names: Sequence[str], ids: NDArray[np.int64], path: Path) -> None:
    """Raise a `DataError` where a category's name begins or ends in a blank, or holds what cannot be printed in a line.

    Names go into tables, file headers and other toolkits, which break or trim them: then it is another name.
    """
    for name, number in zip(names, ids, strict=True):
        if name != name.strip() or any(unicodedata.category(letter) in _UNPRINTABLE for letter in name):
            raise DataError(
                f"{path}: category {number} has the name {name!r}, with blanks around it or control characters in it",
                hint="Rename it in the annotation files of all splits.",
            )


def refuse_doubles(ids: NDArray[np.int64], what: str, path: Path) -> None:
    """Raise a `DataError` where an id is used twice."""
    values, counts = np.unique(ids, return_counts=True)
    doubled = values[counts > 1]
    if doubled.size:
        raise DataError(
            f"{path}: {doubled.size} {what} ids are used more than once: {listed(doubled)}",
            hint=f"Give every {what} an id of its own.",
        )


def positions_of(
    wanted: NDArray[np.int64], known: NDArray[np.int64], what: str, annotation_ids: NDArray[np.int64], path: Path
) -> NDArray[np.int64]:
    """The position of the id that each annotation has of `what` among the known ones."""
    order = np.argsort(known)
    index = order[np.minimum(np.searchsorted(known, wanted, sorter=order), len(known) - 1)]
    unknown = np.flatnonzero(known[index] != wanted)
    if unknown.size:
        first, an = unknown[0], "an" if what == "image" else "a"
        raise DataError(
            f"{path}: {unknown.size} annotations have {an} {what} id that the file does not list; the first is "
            f"annotation {annotation_ids[first]} with {what}_id {wanted[first]}",
            hint=f"Add the missing {what} or remove these annotations.",
        )
    return index.astype(np.int64)


def positive_whole(value: object) -> bool:
    """Whether a value can be a number of pixels."""
    return _whole(value) and 1 <= value < 2**31


def _whole(value: Any) -> TypeGuard[int | float]:
    if type(value) is float:
        return value.is_integer() and abs(value) < 2**53
    return type(value) is int and -(2**63) <= value < 2**63


def with_boxes(rows: Rows) -> tuple[Rows, int]:
    """The annotations, those without `bbox` with the box around their polygons; and how many have it from there.

    Run-length masks are not decoded: an annotation with nothing else still has no box. Null or an empty list is none.
    """
    found, made = list(rows), 0
    for at in _without_box(rows):
        box = _box_around(rows[at].get("segmentation"))
        if box is not None:
            found[at] = {**rows[at], "bbox": box}
            made += 1
    return found, made


def _without_box(rows: Rows) -> list[int]:
    return [at for at, row in enumerate(rows) if row.get("bbox") in (None, [])]


def _box_around(polygons: object) -> list[float] | None:
    """COCO xywh around polygons, each a list x, y, x, y …; None where they are none, or of less than three points."""
    if not isinstance(polygons, list) or not polygons:
        return None
    if not all(isinstance(polygon, list) and len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in polygons):
        return None
    numbers = _numbers(list(chain.from_iterable(polygons)))
    if numbers is None:
        return None
    points = numbers.reshape(-1, 2)
    low = points.min(axis=0)
    with np.errstate(over="ignore"):  # a box without end is refused as any other
        return [*low.tolist(), *(points.max(axis=0) - low).tolist()]


def boxes_of(rows: Rows, ids: NDArray[np.int64], path: Path) -> NDArray[np.float64]:
    """(len(rows), 4) float64, COCO xywh as the file has it."""
    if not rows:
        return np.zeros((0, 4))
    lacking = _without_box(rows)
    if lacking:
        at = lacking[0]
        instead, hint = _what_is_instead(rows[at].get("segmentation"))
        raise DataError(f"{path}: annotation number {at + 1} (id {ids[at]}) has no 'bbox'{instead}", hint=hint)
    values = [row["bbox"] for row in rows]
    of_four = all(isinstance(value, list) and len(value) == 4 for value in values)
    boxes = _numbers(list(chain.from_iterable(values))) if of_four else None
    if boxes is None:
        at = next(i for i, value in enumerate(values) if not _is_box(value))
        raise DataError(
            f"{path}: annotation {ids[at]} has bbox {values[at]!r}, expected four finite numbers: x, y, width, height",
            hint="Write them in pixels, in that order and without quotes.",
        )
    return boxes.reshape(-1, 4)


def _what_is_instead(segmentation: object) -> tuple[str, str]:
    """What an annotation has that makes no box, and what to do."""
    if isinstance(segmentation, dict):
        return (
            ", and its run-length mask is not decoded",
            "Write the box of each mask, as pycocotools.mask.toBbox has it.",
        )
    if segmentation in (None, []):
        return "", "COCO asks for one in every annotation."
    return (
        ", and its polygons make none: expected lists of finite numbers x, y, x, y …, of three points or more",
        "Mend the polygons, or write a bbox.",
    )


def _is_box(value: object) -> bool:
    return isinstance(value, list) and len(value) == 4 and _numbers(value) is not None


def areas_of(rows: Rows, boxes: NDArray[np.float64], ids: NDArray[np.int64], path: Path) -> NDArray[np.float64]:
    """(len(rows),) float64, `area`, or the box's own where there is none."""
    values = [row.get("area") for row in rows]
    stated = np.array([value is not None for value in values], np.bool_)
    with np.errstate(over="ignore"):  # such a box lies outside its image, which is told by its name
        areas = boxes[:, 2] * boxes[:, 3]
    if stated.any():
        found = _numbers([value for value in values if value is not None])
        if found is None or (found < 0).any():
            at = next(i for i, value in enumerate(values) if value is not None and not _is_area(value))
            raise DataError(f"{path}: annotation {ids[at]} has area {values[at]!r}, expected a finite number from 0")
        areas[stated] = found
    return areas


def crowd_of(rows: Rows, ids: NDArray[np.int64], path: Path) -> NDArray[np.bool_]:
    """(len(rows),) bool, `iscrowd`; where it is missing or null, false."""
    values = [row.get("iscrowd") for row in rows]
    for at, value in enumerate(values):
        if value is not None and (isinstance(value, str) or value not in (0, 1)):
            raise DataError(
                f"{path}: annotation {ids[at]} has iscrowd {value!r}, expected 0 or 1",
                hint="1 says that the box holds a crowd of objects; leave it out for single objects.",
            )
    return np.array([bool(value) for value in values], np.bool_)


def rotated(rows: Rows) -> int:
    """How many boxes were turned after they were written, as CVAT says in `attributes.rotation`, in degrees."""
    attributes = [each for row in rows if isinstance(each := row.get("attributes"), dict)]
    angles = [each.get("rotation") for each in attributes]
    return sum(isinstance(angle, int | float) and bool(angle % 180) for angle in angles)


def _is_area(value: object) -> bool:
    found = _numbers([value])
    return found is not None and found[0] >= 0


def _numbers(values: list[Any]) -> NDArray[np.float64] | None:
    """The values as an array of floats; None where one is no finite number, as a text, true or a list."""
    if not set(map(type, values)) <= {int, float}:
        return None
    try:
        found = np.array(values, np.float64)
    except OverflowError:  # an integer beyond all floats
        return None
    return found if np.isfinite(found).all() else None
