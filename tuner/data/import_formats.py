"""Data sets of other formats than COCO's, told apart and read."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from tuner.config.errors import DataError, listed
from tuner.data.darknet import DARKNET, darknet_data
from tuner.data.files import files_under
from tuner.data.import_voc import import_voc
from tuner.data.import_yolo import import_yolo
from tuner.data.imported import ImportedData
from tuner.data.other_formats import json_files, lists_images
from tuner.data.voc import is_voc
from tuner.data.voc_files import voc_homes
from tuner.data.yolo import is_yolo
from tuner.data.yolo_files import classes_file, data_yaml


def import_folder(folder: Path, leave_out: Collection[Path] = ()) -> ImportedData | None:
    """Read a folder with a data set in YOLO's or Pascal VOC's format; None where it holds neither, or JSON files.

    Where data.yaml, obj.data, classes.txt or the lists of VOC describe it, only JSON files with a list of images count.

    Args:
        folder: Of images and annotations.
        leave_out: Absolute paths of JSON files that do not count.

    Raises:
        DataError: As `import_yolo` and `import_voc`; the folder holds both formats.
    """
    jsons = [file for file in json_files(folder) if file.absolute() not in leave_out]
    if jsons and (not _is_described(folder) or any(map(lists_images, jsons))):
        return None
    found = _import(folder)
    if found is None or not jsons:
        return found
    return replace(found, notes=(*found.notes, f"left out: {listed(jsons)}; COCO JSON has a list of images"))


def _import(folder: Path) -> ImportedData | None:
    files = list(files_under(folder))
    text = next((file for file in files if is_yolo(file)), None)
    data = data_yaml(folder) if text is not None or (folder / "data.yaml").is_file() else None
    data = data or darknet_data(folder)
    xml = next((file for file in files if file.suffix.lower() == ".xml"), None)
    voc = next(filter(is_voc, files), None) if data is None and text is not None else None
    if voc is not None:
        raise DataError(
            f"{folder} holds annotations as Pascal VOC has them, such as {voc}, and as YOLO has them, such as {text}",
            hint="Move those that are not meant out of it.",
        )
    if data is not None or text is not None:
        return import_yolo(folder, data)
    return import_voc(folder) if xml is not None else None


def _is_described(folder: Path) -> bool:
    """Whether a file says what the data set of another format is."""
    named = any((folder / name).is_file() for name in ("data.yaml", DARKNET))
    return named or classes_file(folder) is not None or bool(voc_homes(folder))
