"""Data sets of other formats than COCO's, told apart and read."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from tuner.config.errors import DataError
from tuner.data.import_voc import import_voc
from tuner.data.import_yolo import import_yolo
from tuner.data.imported import ImportedData
from tuner.data.other_formats import files_under
from tuner.data.yolo import is_yolo
from tuner.data.yolo_files import data_yaml


def import_folder(folder: Path, leave_out: Collection[Path] = ()) -> ImportedData | None:
    """Read a folder with a data set in YOLO's or Pascal VOC's format; None where it holds neither, or JSON files.

    Args:
        folder: Of images and annotations.
        leave_out: Absolute paths of JSON files that do not count.

    Raises:
        DataError: As `import_yolo` and `import_voc`; the folder holds both formats.
    """
    # Label Studio names the classes in a notes.json, too, beside its classes.txt.
    beside = {"notes.json"} if (folder / "classes.txt").is_file() else set()
    jsons = [file for pattern in ("*", "*/*") for file in folder.glob(pattern) if file.suffix.lower() == ".json"]
    if any(file.absolute() not in leave_out and file.name not in beside for file in jsons):
        return None
    files = list(files_under(folder))
    text = next((file for file in files if is_yolo(file)), None)
    data = data_yaml(folder) if text is not None or (folder / "data.yaml").is_file() else None
    xml = next((file for file in files if file.suffix.lower() == ".xml"), None)
    if data is None and xml is not None and text is not None:
        raise DataError(
            f"{folder} holds annotations as Pascal VOC has them, such as {xml}, and as YOLO has them, such as {text}",
            hint="Move those that are not meant out of it.",
        )
    if data is not None or text is not None:
        return import_yolo(folder, data)
    return import_voc(folder) if xml is not None else None
