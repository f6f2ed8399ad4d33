"""Annotations of other formats than COCO's, refused by their name where `tuner.data.import_formats` reads none."""

from __future__ import annotations

import re
from pathlib import Path

from tuner.config.errors import DataError
from tuner.data.files import files_under
from tuner.data.yolo import is_yolo

CONVERT = "Convert the annotations to COCO JSON: CVAT, Label Studio, Roboflow and FiftyOne export it."
"""What to do about annotations of a format that is not read."""
_COCO = re.compile(rb'"images"\s*:\s*\[')
_GIVE_FOLDER = "Give the folder above images and annotations alone, as in `tuner init DIR`, to have them converted."


def refuse_other_formats(folder: Path) -> None:
    """Raise a `DataError` where a folder without JSON files, or one under it, holds annotations of another format."""
    for file in files_under(folder):
        name = file.name.lower()
        if name.endswith(".json.gz"):
            raise DataError(f"{file} is compressed", hint="Unpack it first: gunzip FILE.")
        if name.endswith(".xml"):
            raise DataError(
                f"{folder} holds XML, as Pascal VOC has it, not COCO JSON; the first file is {file}", hint=_GIVE_FOLDER
            )
        if is_yolo(file):
            raise DataError(
                f"{folder} holds a text file for each image, as YOLO has it, not COCO JSON; the first is {file}",
                hint=_GIVE_FOLDER,
            )


def refuse_other_json(content: object, path: Path) -> None:
    """Raise a `DataError` where what a JSON file holds is LabelMe's annotation of one image, or Datumaro's of many."""
    if not isinstance(content, dict):
        return
    if "shapes" in content and "imagePath" in content:
        raise DataError(f"{path}: one image's annotations, as LabelMe has them, not COCO JSON", hint=CONVERT)
    if "items" in content and "images" not in content and isinstance(content.get("categories"), dict):
        raise DataError(
            f"{path}: annotations in Datumaro's own format, not COCO JSON",
            hint="Export them from CVAT as COCO 1.0, or convert the data set: "
            "datum convert -if datumaro -i DIR -f coco_instances -o OUT -- --save-media",
        )


def lists_images(file: Path) -> bool:
    """Whether a JSON file has a list of images, as COCO's have; what cannot be read counts, to have its fault named."""
    try:
        return _COCO.search(file.read_bytes().replace(b"\0", b"")) is not None  # as in UTF-16 every second byte is
    except OSError:
        return True


def json_files(folder: Path) -> list[Path]:
    """The JSON files of a folder and of the folders in it, in order; hidden ones are left out."""
    found = (file for depth in ("", "*/") for file in folder.glob(f"{depth}*.[jJ][sS][oO][nN]"))
    return sorted(file for file in found if not any(part.startswith(".") for part in file.relative_to(folder).parts))
