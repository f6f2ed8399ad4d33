"""What the readers of other annotation formats return, and how they write images with boxes as COCO's content."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner.config.errors import DataError, listed

Box = tuple[float, float, float, float]
"""COCO xywh in original pixels."""


@dataclass(frozen=True)
class ImportedObject:
    """One object of an image.

    Attributes:
        category: Id of its class.
        box: COCO xywh in original pixels.
        ignored: Whether it is neither to be learnt nor to be found: COCO's `iscrowd`.
        rotation: By how many degrees the object was turned after the box was written, as CVAT has it.
    """

    category: int
    box: Box
    ignored: bool = False
    rotation: float = 0.0


@dataclass(frozen=True)
class ImportedImage:
    """An image file with its objects; `size` is (width, height) after EXIF rotation."""

    path: Path
    size: tuple[int, int]
    objects: tuple[ImportedObject, ...]


@dataclass(frozen=True)
class ImportedData:
    """A data set of another format as COCO has it.

    Attributes:
        images: Folder that the file names of all splits start from.
        contents: COCO content by "train", "val" and "test"; train is always there.
        sources: The file or folder that each split was read from, for messages.
        notes: What was found and decided, each a sentence.
    """

    images: Path
    contents: dict[str, dict[str, Any]]
    sources: dict[str, Path]
    notes: tuple[str, ...]


def imported(
    splits: Mapping[str, Sequence[ImportedImage]],
    categories: Mapping[int, str],
    sources: dict[str, Path],
    notes: Iterable[str],
) -> ImportedData:
    """Splits as COCO's content, with file names from the folder above all images."""
    root = Path(os.path.commonpath([image.path.parent for images in splits.values() for image in images]))
    contents = {role: coco_content(images, root, categories) for role, images in splits.items()}
    return ImportedData(root, contents, sources, tuple(notes))


def coco_content(images: Sequence[ImportedImage], root: Path, categories: Mapping[int, str]) -> dict[str, Any]:
    """The content of a COCO annotation file; `categories` are class names by id."""
    rows: list[dict[str, Any]] = []
    for number, image in enumerate(images, start=1):
        for each in image.objects:
            row: dict[str, Any] = {
                "id": len(rows) + 1,
                "image_id": number,
                "category_id": each.category,
                "bbox": list(each.box),
            }
            row |= {"area": max(0.0, each.box[2]) * max(0.0, each.box[3]), "iscrowd": int(each.ignored)}
            if each.rotation:
                row["attributes"] = {"rotation": each.rotation}
            rows.append(row)
    return {
        "images": [
            {
                "id": number,
                "file_name": image.path.relative_to(root).as_posix(),
                "width": image.size[0],
                "height": image.size[1],
            }
            for number, image in enumerate(images, start=1)
        ],
        "annotations": rows,
        "categories": [{"id": number, "name": name} for number, name in sorted(categories.items())],
    }


def read_lines(path: Path) -> list[str]:
    """The lines of a text file in UTF-8, with or without byte order mark.

    Raises:
        DataError: It cannot be read, or is no such text.
    """
    try:
        return path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: not a text in UTF-8: {error.reason} at byte {error.start}", hint="Save it in UTF-8."
        ) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}", hint="Check that the file is there.") from None


def raise_faults(faults: Sequence[str], hint: str) -> None:
    """Raise a `DataError` that counts faults and names the first ones, each with its place; nothing where none is."""
    if len(faults) == 1:
        raise DataError(faults[0], hint=hint)
    if faults:
        raise DataError(f"{len(faults)} faults in the annotations: {listed(faults)}", hint=hint)
