"""obj.data, in which Darknet and CVAT's "YOLO 1.1" describe a YOLO data set, read as if it were a data.yaml."""

from __future__ import annotations

from pathlib import Path

from tuner.config.errors import DataError
from tuner.config.source import Section
from tuner.data.imported import read_lines

DARKNET = "obj.data"
"""Name of the file, which says in lines `key = value` where lists of images and the names of classes are."""

_SPLITS = ("train", "valid", "test")


def darknet_data(folder: Path) -> Section | None:
    """What the obj.data of a folder says, with the class names out of the file that it names; None without one.

    Raises:
        DataError: It names no file of class names, or one that is not there; a file cannot be read.
    """
    file = folder / DARKNET
    if not file.is_file():
        return None
    values: dict[str, str] = {}
    lines: dict[str, int] = {}
    for number, line in enumerate(read_lines(file), start=1):
        key, equals, value = map(str.strip, line.partition("="))
        if equals:
            values[key], lines[key] = value, number
    listed = values.get("names", "")
    places = [folder / listed, folder / listed.removeprefix("data/")]  # CVAT writes it before what is beside
    names = next((place for place in places if place.is_file()), None)
    if names is None:
        raise DataError(
            f"{file}:{lines['names']}: names: {listed} does not exist" if listed else f"{file}: `names` is missing",
            hint="Let it be a file with the name of each class on a line of its own, as in `names = obj.names`.",
        )
    classes = "\n".join(read_lines(names)).rstrip().split("\n")
    splits = {key: values[key] for key in _SPLITS if values.get(key)}
    return Section({"names": [name.strip() for name in classes], **splits}, file, 1, lines)
