"""Annotations of other formats than COCO's, refused by their name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from tuner.config.errors import DataError

_HINT = "Convert the annotations to COCO JSON: CVAT, Label Studio, Roboflow and FiftyOne export it."
_YOLO_LINE = re.compile(r"\s*\d+(\s+-?\d*\.?\d+(e-?\d+)?){4,}\s*", re.I)


def refuse_other_formats(folder: Path) -> None:
    """Raise a `DataError` where a folder without JSON files, or one under it, holds annotations of another format."""
    for file in _files(folder):
        name = file.name.lower()
        if name.endswith(".json.gz"):
            raise DataError(f"{file} is compressed", hint="Unpack it first: gunzip FILE.")
        if name.endswith(".xml"):
            raise DataError(
                f"{folder} holds XML, as Pascal VOC has it, not COCO JSON; the first file is {file}", hint=_HINT
            )
        if name.endswith(".txt") and _is_yolo(file):
            raise DataError(
                f"{folder} holds a text file for each image, as YOLO has it, not COCO JSON; the first is {file}",
                hint=_HINT,
            )


def refuse_labelme(content: object, path: Path) -> None:
    """Raise a `DataError` where what a JSON file holds is LabelMe's annotation of one image."""
    if isinstance(content, dict) and "shapes" in content and "imagePath" in content:
        raise DataError(f"{path}: one image's annotations, as LabelMe has them, not COCO JSON", hint=_HINT)


def _files(folder: Path) -> Iterator[Path]:
    for parent, children, names in os.walk(folder):
        children[:] = sorted(child for child in children if not child.startswith("."))
        yield from (Path(parent) / name for name in sorted(names))


def _is_yolo(file: Path) -> bool:
    """Whether the first line is a class and four numbers or more."""
    try:
        with file.open(encoding="utf-8") as lines:
            return _YOLO_LINE.fullmatch(lines.readline(1000)) is not None
    except (OSError, UnicodeDecodeError):
        return False
