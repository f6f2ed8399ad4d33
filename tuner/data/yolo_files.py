"""Which images, labels and classes a YOLO data set has: by its data.yaml, or by its folders and classes.txt."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner.config.errors import ConfigError, DataError
from tuner.config.source import NoMapping, Section, read_yaml, where
from tuner.data.files import images_under
from tuner.data.imported import read_lines
from tuner.data.roles import ROLES, splits_by_folders, with_training

_NAME_CLASSES = "Write a data.yaml with `train:`, `val:` and `names: [first class, second class]`."


@dataclass(frozen=True)
class YoloFiles:
    """The parts of a YOLO data set.

    Attributes:
        source: The data.yaml, or the folder where there is none.
        names: Class names by index.
        images: Image files by "train", "val" and "test"; train is always there.
        keypoints: Numbers of each label that are keypoints.
        notes: What was left out, each a sentence.
    """

    source: Path
    names: dict[int, str]
    images: dict[str, list[Path]]
    keypoints: int = 0
    notes: tuple[str, ...] = ()


def data_yaml(folder: Path) -> Section | None:
    """The data.yaml of a folder, whatever its name: the YAML file with `names` and `train`; None where there is none.

    Raises:
        ConfigError: A file cannot be read or is not valid YAML, and neither another nor a classes.txt describes the
            data set, or it is data.yaml itself.
        DataError: Several files could be it.
    """
    own = folder / "data.yaml"
    sections, faults = _yaml_files(folder)
    described = not own.is_file() and classes_file(folder) is not None
    if faults and not described and not any({"names", "train"} <= section.keys() for section in sections):
        raise faults[0]
    found = [section for section in sections if {"names", "train"} & section.keys()]
    if len(found) > 1:
        raise DataError(
            f"{found[0].file} and {found[1].file} both name images and classes",
            hint="Rename the one that is meant to data.yaml.",
        )
    return found[0] if found else None


def _yaml_files(folder: Path) -> tuple[list[Section], list[ConfigError]]:
    """The YAML files of a folder that may describe a data set, data.yaml alone where it is there, and their faults."""
    own = folder / "data.yaml"
    files = sorted(file for end in ("*.yaml", "*.yml") for file in folder.glob(end))
    sections: list[Section] = []
    faults: list[ConfigError] = []
    for file in [own] if own.is_file() else files:
        try:
            sections.append(read_yaml(file, texts=("names",)))
        except ConfigError as error:
            if file == own or not isinstance(error, NoMapping):  # without a mapping it is about something else
                faults.append(error)
    return sections, faults


def by_yaml(data: Section) -> YoloFiles:
    """The data set that a data.yaml describes, as Ultralytics and Roboflow write it, or what is read like one.

    Raises:
        DataError: A key is missing or wrong, or a path is not there; names the line.
    """
    names = _names(data)
    if not data.get("train"):
        raise DataError(f"{data.file}: `train` is missing", hint="Name the folder of the training images there.")
    images, notes = {}, []
    for role, synonyms in ROLES.items():
        key = next((word for word in synonyms if data.get(word) not in (None, "", [])), None)
        if key is None:
            continue
        settings = data[key] if isinstance(data[key], list) else [data[key]]
        places = [_place(data, key, setting) for setting in settings]
        if role == "test" and None in places:  # Roboflow names it whether there is one or not
            notes.append(f"{where(data, (key,))}{data[key]} does not exist: there is no test split")
            continue
        for setting, place in zip(settings, places, strict=True):
            if place is None:
                raise DataError(
                    f"{where(data, (key,))}{setting} does not exist",
                    hint=f"Mend `path` or `{key}`: folders start from `path`, or from the folder of {data.file.name}.",
                )
        found = [image for place in places if place is not None for image in _images_of(place, data)]
        empty = f"{where(data, (key,))}no image in {', '.join(map(str, places))}"
        if found:
            images[role] = found
        elif role == "train":
            raise DataError(empty, hint="Check the path.")
        else:
            notes.append(f"{empty}: there is no {role} split")
    return YoloFiles(data.file, names, images, _keypoints(data), tuple(notes))


def classes_file(folder: Path) -> Path | None:
    """The classes.txt of a folder, which may be beside the labels or the images."""
    places = [place / "classes.txt" for place in (folder, folder / "labels", folder / "images")]
    return next((path for path in places if path.is_file()), None)


def by_folders(folder: Path) -> YoloFiles:
    """A data set without data.yaml: images/train or train/images and so on, with class names in a classes.txt.

    Raises:
        DataError: There are no images, none to train on, or no names of classes.
    """
    classes = classes_file(folder)
    if classes is None:
        raise DataError(
            f"{folder} holds a text file for each image, as YOLO has it, but no data.yaml or classes.txt with the "
            "names of the classes",
            hint=f"Give the folder that holds one. {_NAME_CLASSES}",
        )
    lines = [line.strip() for line in read_lines(classes)]
    names = {index: name for index, name in enumerate(lines) if name}
    if not names:
        raise DataError(
            f"{classes} is empty: expected the names of the classes", hint="Write each into a line of its own."
        )
    everything = images_under(folder)
    if not everything:
        raise DataError(f"{folder} holds labels as YOLO has them, but no image", hint="Put the images beside labels/.")
    images, notes = with_training(*splits_by_folders(everything, folder), folder, "images")
    _, faults = _yaml_files(folder)
    unread = [f"{classes} names the classes, and this was passed over: {fault.message}" for fault in faults]
    return YoloFiles(folder, names, images, notes=(*unread, *notes))


def label_file(image: Path) -> Path:
    """Where the labels of an image are: in labels/ instead of the last images/ of its path, or else beside it."""
    parts = list(image.parts)
    folders = [i for i, part in enumerate(parts[:-1]) if part == "images"]
    if folders:
        parts[folders[-1]] = "labels"
        if (there := Path(*parts).with_suffix(".txt")).parent.is_dir():
            return there
    return image.with_suffix(".txt")


def _names(data: Section) -> dict[int, str]:
    """Class names by index, from a list or a mapping."""
    place = where(data, ("names",)) if "names" in data else f"{data.file}: names: "
    names = data.get("names")
    listed = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(listed, dict) or not listed:
        raise DataError(f"{place}expected the class names as a list or by index, found {names!r}", hint=_NAME_CLASSES)
    found = {}
    for key, name in listed.items():
        if not str(key).isdecimal() or isinstance(name, (list, dict, type(None))) or not str(name).strip():
            raise DataError(
                f"{place}{key}: {name!r} is no class index with its name",
                hint="Write `names: [first, second]`, or `0: first` and so on below it.",
            )
        found[int(key)] = str(name)
    if data.get("nc") is not None and data["nc"] != len(found):
        raise DataError(
            f"{where(data, ('nc',))}{data['nc']!r}, but `names` has {len(found)} classes",
            hint="Mend the one that is wrong.",
        )
    return found


def _keypoints(data: Section) -> int:
    """Numbers of each label behind its box, as `kpt_shape: [keypoints, numbers of each]` says; 0 without that."""
    shape: Any = data.get("kpt_shape")
    if shape is None:
        return 0
    if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
        raise DataError(f"{where(data, ('kpt_shape',))}{shape!r}, expected two whole numbers, as in [17, 3]")
    return math.prod(shape)


def _place(data: Section, key: str, setting: Any) -> Path | None:
    """The folder or list that a value of data.yaml names; None where it does not exist.

    `path` is where it starts, unless that is a folder of another machine. For what is beside the file, Roboflow writes
    ../train/images, and CVAT data/train.txt.
    """
    if not isinstance(setting, str) or not setting:
        raise DataError(f"{where(data, (key,))}expected a path or a list of paths, found {setting!r}")
    folder = Path(os.path.abspath(data.file.parent))  # noqa: PTH100 (a link stays where it is)
    starts = [folder / str(data["path"]), folder] if data.get("path") else [folder]
    inside = setting.removeprefix("../")
    for start in starts:
        for each in dict.fromkeys((inside, setting, inside.removeprefix("data/"))):
            place = Path(os.path.normpath(start / each))
            if place.is_dir() or place.is_file():
                return place
    return None


def _images_of(place: Path, data: Section) -> list[Path]:
    """The images of a folder, or those that the lines of a text file name."""
    if place.is_dir():
        return images_under(place)
    if place.suffix.lower() != ".txt":
        raise DataError(f"{data.file}: {place} is neither a folder nor a .txt list of images")
    found = []
    for number, line in enumerate(read_lines(place), start=1):
        if name := line.strip():
            inside = name.removeprefix("./").removeprefix("data/")  # CVAT and Datumaro write it before what is beside
            paths = [Path(os.path.normpath(place.parent / each)) for each in (name, inside)]
            path = next((path for path in paths if path.is_file()), None)
            if path is None:
                raise DataError(
                    f"{place}:{number}: the image {name} does not exist",
                    hint=f"Names start from {place.parent}; mend or remove the line.",
                )
            found.append(path)
    return found
