"""One COCO annotation file to a `Split`, with every fault named."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tuner.config.errors import DataError
from tuner.data.check import BoxReport, check_boxes, check_files_exist, header_sizes, listed
from tuner.data.json_file import read_json
from tuner.data.split import Split

Rows: TypeAlias = list[dict[str, Any]]

_JSON_NAMES = {list: "a list", str: "a text", int: "a number", float: "a number", bool: "a boolean", type(None): "null"}


def read_annotations(
    path: Path,
    images_dir: Path,
    *,
    name: str,
    on_bad_boxes: Literal["refuse", "repair"] = "refuse",
    needs_boxes: bool = True,
) -> tuple[Split, BoxReport]:
    """Read a COCO annotation file; image files are opened only where it lacks their width or height.

    Boxes stay as they are in the file, to the bit, unless they are repaired. `area` is width times height
    where an annotation has none; a clipped box has at most its remaining width times height.

    Args:
        path: The JSON file.
        images_dir: Folder that its file names are relative to.
        name: Name of the split.
        on_bad_boxes: What to do with boxes outside their image or without area: refuse the file, or clip
            and drop them, counted in the report.
        needs_boxes: Whether a file without objects is refused; false where false positives alone can be counted.

    Returns:
        The split and what was found wrong with its boxes.

    Raises:
        DataError: The file is missing, is not JSON or not COCO, has no images, no categories or (where they are needed)
            no boxes but crowds; ids are doubled or unknown, numbers are not finite, or boxes are bad and to be refused.
    """
    return parse_annotations(
        read_content(path), path, images_dir, name=name, on_bad_boxes=on_bad_boxes, needs_boxes=needs_boxes
    )


def parse_annotations(
    content: dict[str, Any],
    path: Path,
    images_dir: Path,
    *,
    name: str,
    on_bad_boxes: Literal["refuse", "repair"],
    needs_boxes: bool = True,
) -> tuple[Split, BoxReport]:
    """What `read_annotations` does with the content of its file; `path` is for messages."""
    images, annotations, categories = (_rows(content, key, path) for key in ("images", "annotations", "categories"))
    for rows, key in ((images, "images"), (categories, "categories"), (annotations, "boxes")):
        if not rows and (needs_boxes or key != "boxes"):
            raise DataError(f"{path}: no {key}", hint="Check that this is the annotation file you mean.")

    category_ids, classes = _categories(categories, path)
    image_ids = _ids(images, "id", "image", path)
    _refuse_doubles(image_ids, "image", path)
    file_names = listed_files(content, path)
    sizes = _sizes(images, [images_dir / file_name for file_name in file_names], path)

    annotation_ids = _ids(annotations, "id", "annotation", path)
    _refuse_doubles(annotation_ids, "annotation", path)
    image_index = _lookup(_ids(annotations, "image_id", "annotation", path), image_ids, "image", annotation_ids, path)
    labels = _lookup(
        _ids(annotations, "category_id", "annotation", path), category_ids, "category", annotation_ids, path
    )
    boxes = _boxes(annotations, annotation_ids, path)
    areas = _areas(annotations, boxes, annotation_ids, path)
    crowd = _crowd(annotations, annotation_ids, path)

    order = np.argsort(image_index, kind="stable")
    image_index, annotation_ids, labels = image_index[order], annotation_ids[order], labels[order]
    boxes, areas, crowd = boxes[order], areas[order], crowd[order]

    describe = _Descriptions(annotation_ids, image_index, file_names)
    repaired, keep, report = check_boxes(boxes, sizes[image_index], split=name, policy=on_bad_boxes, describe=describe)
    if on_bad_boxes == "refuse" and not report.clean:
        raise DataError(
            f"{path}: {report.text()}",
            hint="Mend the annotations, or let boxes be clipped and dropped: `on_bad_boxes: repair` "
            "(--on-bad-boxes repair).",
        )
    if needs_boxes and not keep.any():
        raise DataError(f"{path}: none of its {len(boxes)} boxes has an area inside its image")
    if needs_boxes and crowd[keep].all():
        raise DataError(
            f"{path}: all {keep.sum()} boxes are crowd regions (iscrowd 1), so there is no object to learn or to find",
            hint="Set iscrowd to 0 for boxes that hold one object.",
        )
    changed = (repaired != boxes).any(axis=1)
    areas = np.where(changed, np.minimum(areas, repaired[:, 2] * repaired[:, 3]), areas)
    counts = np.bincount(image_index[keep], minlength=len(images))
    split = Split(
        name=name,
        images_dir=images_dir,
        file_names=file_names,
        image_ids=image_ids,
        sizes=sizes,
        boxes=repaired[keep],
        areas=areas[keep],
        labels=labels[keep],
        crowd=crowd[keep],
        annotation_ids=annotation_ids[keep],
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        classes=classes,
        category_ids=tuple(category_ids.tolist()),
    )
    return split, report


class _Descriptions(Sequence[str]):
    """Names of annotations, made only when a message asks for one."""

    def __init__(self, ids: NDArray[np.int64], image_index: NDArray[np.int64], file_names: tuple[str, ...]) -> None:
        self._ids, self._image_index, self._file_names = ids, image_index, file_names

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: Any) -> Any:
        return f"annotation {self._ids[index]} of {self._file_names[self._image_index[index]]}"


def read_content(path: Path) -> dict[str, Any]:
    """The JSON object that an annotation file is; its parts are not checked yet.

    Raises:
        DataError: The file is missing, cannot be read, is not JSON or no object.
    """
    content = read_json(path, "annotation file", hint="Check the paths under `data`; they are relative to `data.root`.")
    if not isinstance(content, dict):
        raise DataError(
            f"{path}: {_JSON_NAMES[type(content)]} at the top, but a COCO annotation file is an object with "
            "images, annotations and categories"
        )
    return content


def listed_files(content: dict[str, Any], path: Path) -> tuple[str, ...]:
    """The names of the image files that the content of an annotation file lists, in its order.

    Backslashes, as tools on Windows write them, separate folders like slashes.

    Raises:
        DataError: There is no list of images, or an image has no name.
    """
    names = _strings(_rows(content, "images", path), "file_name", "image", path)
    return tuple(name.replace("\\", "/") for name in names)


def _rows(content: dict[str, Any], key: str, path: Path) -> Rows:
    rows = content.get(key)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        found = "missing" if key not in content else "not a list of objects"
        raise DataError(f"{path}: {key!r} is {found}", hint="A COCO annotation file lists one object for each.")
    return rows


def _column(rows: Rows, key: str, what: str, path: Path) -> list[Any]:
    try:
        return [row[key] for row in rows]
    except KeyError:
        at = next(i for i, row in enumerate(rows) if key not in row)
        known = f" (id {rows[at]['id']!r})" if "id" in rows[at] else ""
        raise DataError(f"{path}: {what} number {at + 1}{known} has no {key!r}") from None


def _ids(rows: Rows, key: str, what: str, path: Path) -> NDArray[np.int64]:
    values = _column(rows, key, what, path)
    if not set(map(type, values)) <= {int} or not all(-(2**63) <= value < 2**63 for value in values):
        at = next(i for i, value in enumerate(values) if type(value) is not int or not -(2**63) <= value < 2**63)
        raise DataError(f"{path}: {what} number {at + 1} has {key} {values[at]!r}, expected a whole number")
    return np.array(values, np.int64)


def _strings(rows: Rows, key: str, what: str, path: Path) -> list[str]:
    values = _column(rows, key, what, path)
    for at, value in enumerate(values):
        if not isinstance(value, str) or not value:
            raise DataError(f"{path}: {what} number {at + 1} has {key} {value!r}, expected a text")
    return values


def _refuse_doubles(ids: NDArray[np.int64], what: str, path: Path) -> None:
    values, counts = np.unique(ids, return_counts=True)
    doubled = values[counts > 1]
    if doubled.size:
        raise DataError(
            f"{path}: {doubled.size} {what} ids are used more than once: {listed(doubled)}",
            hint=f"Give every {what} an id of its own.",
        )


def _categories(rows: Rows, path: Path) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    ids = _ids(rows, "id", "category", path)
    _refuse_doubles(ids, "category", path)
    names = _strings(rows, "name", "category", path)
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise DataError(f"{path}: two categories have the same name: {listed(doubled)}", hint="Rename one of them.")
    order = np.argsort(ids)
    return ids[order], tuple(names[i] for i in order)


def _lookup(
    wanted: NDArray[np.int64], known: NDArray[np.int64], what: str, annotation_ids: NDArray[np.int64], path: Path
) -> NDArray[np.int64]:
    """The position of each wanted id among the known ones."""
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


def _sizes(images: Rows, paths: list[Path], path: Path) -> NDArray[np.int32]:
    if any(image.get("width") is None or image.get("height") is None for image in images):
        check_files_exist(paths)
        return header_sizes(paths)
    values = [(image["width"], image["height"]) for image in images]
    at = next((i for i, pair in enumerate(values) if not all(map(_positive_whole, pair))), None)
    if at is not None:
        width, height = values[at]
        raise DataError(
            f"{path}: image {images[at]['file_name']!r} has width {width!r} and height {height!r}, "
            "expected whole numbers above 0"
        )
    return np.array(values, np.int32)


def _positive_whole(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 1 <= value < 2**31 and value == int(value)


def _boxes(rows: Rows, ids: NDArray[np.int64], path: Path) -> NDArray[np.float64]:
    if not rows:
        return np.zeros((0, 4))
    values = _column(rows, "bbox", "annotation", path)
    boxes = _numbers(values)
    if boxes is None or boxes.shape != (len(rows), 4) or not np.isfinite(boxes).all():
        at = next(i for i, value in enumerate(values) if not _is_box(value))
        raise DataError(
            f"{path}: annotation {ids[at]} has bbox {values[at]!r}, expected four finite numbers: x, y, width, height"
        )
    return boxes


def _is_box(value: object) -> bool:
    found = _numbers([value])
    return found is not None and found.shape == (1, 4) and bool(np.isfinite(found).all())


def _areas(rows: Rows, boxes: NDArray[np.float64], ids: NDArray[np.int64], path: Path) -> NDArray[np.float64]:
    values = [row.get("area") for row in rows]
    stated = np.array([value is not None for value in values], np.bool_)
    areas = boxes[:, 2] * boxes[:, 3]
    if stated.any():
        found = _numbers([value for value in values if value is not None])
        if found is None or found.ndim != 1 or not np.isfinite(found).all() or (found < 0).any():
            at = next(i for i, value in enumerate(values) if value is not None and not _is_area(value))
            raise DataError(f"{path}: annotation {ids[at]} has area {values[at]!r}, expected a finite number from 0")
        areas[stated] = found
    return areas


def _crowd(rows: Rows, ids: NDArray[np.int64], path: Path) -> NDArray[np.bool_]:
    values = [row.get("iscrowd", 0) for row in rows]
    for at, value in enumerate(values):
        if not isinstance(value, int) or value not in (0, 1):
            raise DataError(f"{path}: annotation {ids[at]} has iscrowd {value!r}, expected 0 or 1")
    return np.array(values, np.bool_)


def _is_area(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= sys.float_info.max


def _numbers(values: list[Any]) -> NDArray[np.float64] | None:
    """The values as an array of floats, None where one of them is no number (texts are not parsed)."""
    try:
        array = np.array(values)
    except ValueError:
        return None
    return array.astype(np.float64) if array.dtype.kind in "iuf" else None
