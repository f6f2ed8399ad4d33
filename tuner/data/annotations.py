"""One COCO annotation file to a `Split`, with every fault named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tuner.config.errors import DataError, listed
from tuner.data.bad_boxes import BoxReport, check_boxes
from tuner.data.columns import (
    Rows,
    areas_of,
    boxes_of,
    crowd_of,
    ids_of,
    positions_of,
    positive_whole,
    refuse_doubles,
    refuse_unclean,
    rotated,
    rows_of,
    texts_of,
    with_boxes,
)
from tuner.data.image_checks import check_files_exist, header_sizes
from tuner.data.json_file import read_json
from tuner.data.other_formats import CONVERT, refuse_other_json
from tuner.data.split import Split

_JSON_NAMES = {list: "a list", str: "a text", int: "a number", float: "a number", bool: "a boolean", type(None): "null"}

_ANNOTATE = {
    "train": "Check that these are the annotations you mean.",
    "val": "Annotate some of its images, or leave val out: `tuner init` then puts images of train aside for it.",
    "test": "Annotate some of its images, or leave test out.",
}
"""What to do about a split without objects, by its name."""


def read_annotations(
    path: Path,
    images_dir: Path,
    *,
    name: str,
    on_bad_boxes: Literal["refuse", "repair"] = "refuse",
    needs_boxes: bool = True,
) -> tuple[Split, BoxReport]:
    """Read a COCO annotation file; image files are opened only where it lacks their width or height.

    Boxes stay as they are in the file, to the bit, unless they are repaired; an annotation that has polygons and no
    `bbox` gets the box around them. `area` is width times height
    where an annotation has none; a clipped box has at most its remaining width times height.

    Args:
        path: The JSON file.
        images_dir: Folder that its file names are relative to.
        name: Name of the split.
        on_bad_boxes: What to do with boxes outside their image or without area: refuse the file, or clip and drop
            them, as well as copies of boxes, counted in the report.
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
    images, annotations, categories = (rows_of(content, key, path) for key in ("images", "annotations", "categories"))
    for rows, key in ((images, "images"), (categories, "categories")):
        if not rows:
            raise DataError(f"{path}: no {key} in {name}", hint="Check that this is the annotation file you mean.")
    if needs_boxes and not annotations:
        raise DataError(f"{path}: no boxes in {name}", hint=_ANNOTATE.get(name, _ANNOTATE["train"]))

    category_ids, classes = _categories(categories, path)
    image_ids = ids_of(images, "id", "image", path)
    refuse_doubles(image_ids, "image", path)
    file_names = listed_files(content, path)
    sizes = _sizes(images, images_dir, file_names, path)

    annotation_ids = ids_of(annotations, "id", "annotation", path)
    refuse_doubles(annotation_ids, "annotation", path)
    image_index = positions_of(
        ids_of(annotations, "image_id", "annotation", path), image_ids, "image", annotation_ids, path
    )
    labels = positions_of(
        ids_of(annotations, "category_id", "annotation", path), category_ids, "category", annotation_ids, path
    )
    annotations, from_polygons = with_boxes(annotations)
    boxes = boxes_of(annotations, annotation_ids, path)
    areas = areas_of(annotations, boxes, annotation_ids, path)
    crowd = crowd_of(annotations, annotation_ids, path)

    if len(boxes) and boxes.max() <= 1.0 < sizes.min():
        raise DataError(
            f"{path}: all {len(boxes)} boxes lie within one pixel of their image's corner, as fractions of its size do",
            hint="Multiply x and width by the image's width, y and height by its height.",
        )
    order = np.argsort(image_index, kind="stable")
    split = Split(
        name=name,
        images_dir=images_dir,
        file_names=file_names,
        image_ids=image_ids,
        sizes=sizes,
        boxes=boxes[order],
        areas=areas[order],
        labels=labels[order],
        crowd=crowd[order],
        annotation_ids=annotation_ids[order],
        offsets=_offsets(image_index, len(images)),
        classes=classes,
        category_ids=tuple(category_ids.tolist()),
    )
    split, report = _with_sound_boxes(split, path, on_bad_boxes, needs_boxes=needs_boxes)
    return split, report.model_copy(update={"from_polygons": from_polygons, "rotated": rotated(annotations)})


def _offsets(image_index: NDArray[np.int64], images: int) -> NDArray[np.int64]:
    """See `Split.offsets`."""
    return np.concatenate([[0], np.cumsum(np.bincount(image_index, minlength=images))]).astype(np.int64)


def _with_sound_boxes(
    split: Split, path: Path, on_bad_boxes: Literal["refuse", "repair"], *, needs_boxes: bool
) -> tuple[Split, BoxReport]:
    """A split with those of its boxes that can be used, repaired where that is asked for, and what was wrong."""
    name = split.name
    repaired, keep, report = check_boxes(split, on_bad_boxes)
    if on_bad_boxes == "refuse" and (report.outside or report.without_area):
        raise DataError(
            f"{path}: {report.text()}",
            hint="Mend the annotations, or let boxes be clipped and dropped: `on_bad_boxes: repair` "
            "(--on-bad-boxes repair).",
        )
    if needs_boxes and not keep.any():
        raise DataError(
            f"{path}: none of the {len(split.boxes)} boxes of {name} has an area inside its image",
            hint=_ANNOTATE.get(name, _ANNOTATE["train"]),
        )
    if needs_boxes and split.crowd[keep].all():
        raise DataError(
            f"{path}: all {keep.sum()} boxes of {name} are crowd regions (iscrowd 1), so there is no object to learn "
            "or to find",
            hint="Set iscrowd to 0 for boxes that hold one object.",
        )
    changed = (repaired != split.boxes).any(axis=1)
    areas = split.areas.copy()
    areas[changed] = np.minimum(areas[changed], repaired[changed, 2] * repaired[changed, 3])
    sound = replace(
        split,
        boxes=repaired[keep],
        areas=areas[keep],
        labels=split.labels[keep],
        crowd=split.crowd[keep],
        annotation_ids=split.annotation_ids[keep],
        offsets=_offsets(split.image_index[keep], len(split)),
    )
    return sound, report


def read_content(path: Path) -> dict[str, Any]:
    """The JSON object that an annotation file is; its parts are not checked yet.

    Raises:
        DataError: The file is missing, cannot be read, is not JSON, no object or of another format.
    """
    content = read_json(path, "annotation file", hint="Check the paths under `data`; they are relative to `data.root`.")
    refuse_other_json(content, path)
    keys = "images, annotations and categories"
    if not isinstance(content, dict):
        top = _JSON_NAMES[type(content)]
        raise DataError(f"{path}: {top} at the top, but a COCO annotation file is an object with {keys}", hint=CONVERT)
    if content and not {"images", "annotations", "categories"} & content.keys():
        raise DataError(f"{path}: none of {keys}, which a COCO annotation file has", hint=CONVERT)
    return content


def listed_files(content: dict[str, Any], path: Path) -> tuple[str, ...]:
    """The names of the image files that the content of an annotation file lists, in its order.

    Backslashes, as tools on Windows write them, separate folders like slashes; a leading "./" means nothing.

    Raises:
        DataError: There is no list of images, or an image has no name.
    """
    names = texts_of(rows_of(content, "images", path), "file_name", "image", path)
    return tuple(str(PurePosixPath(name.replace("\\", "/"))) for name in names)


def _categories(rows: Rows, path: Path) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    ids = ids_of(rows, "id", "category", path)
    refuse_doubles(ids, "category", path)
    names = texts_of(rows, "name", "category", path)
    refuse_unclean(names, ids, path)
    doubled = [f"{name} (id {number})" for name, number in zip(names, ids, strict=True) if names.count(name) > 1]
    if doubled:
        raise DataError(
            f"{path}: categories have the same name: {listed(sorted(doubled))}",
            hint="Rename one of them, or remove the one that no annotation names.",
        )
    order = np.argsort(ids)
    return ids[order], tuple(names[i] for i in order)


def _sizes(images: Rows, images_dir: Path, file_names: tuple[str, ...], path: Path) -> NDArray[np.int32]:
    """(len(images), 2) int32, width and height as stated; those that are not, from the headers of the image files."""
    pairs = [(image.get("width"), image.get("height")) for image in images]
    for image, (width, height) in zip(images, pairs, strict=True):
        if not all(value is None or positive_whole(value) for value in (width, height)):
            raise DataError(
                f"{path}: image {image['file_name']!r} has width {width!r} and height {height!r}, "
                "expected whole numbers above 0",
                hint="Mend them, or remove width and height: they are then read from the image files.",
            )
    lacking = [i for i, pair in enumerate(pairs) if None in pair]
    if lacking:
        check_files_exist(images_dir, file_names, path)
        found = header_sizes([images_dir / file_names[i] for i in lacking])
        for i, (width, height) in zip(lacking, found.tolist(), strict=True):
            pairs[i] = (pairs[i][0] or width, pairs[i][1] or height)
    return np.array(pairs, np.int32)
