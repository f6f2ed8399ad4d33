"""Finding the splits of a data set and their images; where there is no validation split, images are put aside."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.config.errors import DataError
from tuner.config.study import DataSpec
from tuner.data.annotation_files import split_files
from tuner.data.annotations import listed_files, parse_annotations, read_content
from tuner.data.divide import about_videos, divide, videos_of
from tuner.data.image_checks import check_files_exist
from tuner.data.image_folder import image_folder
from tuner.data.import_formats import import_folder
from tuner.data.roles import ROLES


@dataclass(frozen=True)
class FoundData:
    """A data set ready to be named in a study file.

    Attributes:
        data: Absolute paths of the splits, which exist once `files` are written.
        files: Annotation files to be written, with their content: splits that were made here, and files whose
            image names must start from the image folder.
        notes: What was found and decided, each a sentence.
        read: The files that say what the splits are, which nothing may overwrite.
    """

    data: DataSpec
    files: dict[Path, dict[str, Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    read: tuple[Path, ...] = ()


def find_data(
    images: Path, annotations: Sequence[Path], val: Path | None, test: Path | None, *, stem: Path
) -> FoundData:
    """Find the splits of a data set.

    Args:
        images: Folder of the images, or a folder above it.
        annotations: COCO JSON files, or folders with such files; what each is says its name or its folder's. The
            folder of the images alone may hold a data set in YOLO's or Pascal VOC's format.
        val: The validation split, where the name does not say it.
        test: The test split, likewise.
        stem: Where new annotation files go: `stem` + ".train.json" and so on.

    Raises:
        DataError: A file, folder or image is missing or broken, or the names do not say which split is which.
    """
    if not images.is_dir():
        raise DataError(f"the folder {images} does not exist", hint="Check the path.")
    made = {role: stem.with_name(f"{stem.name}.{role}.json").absolute() for role in ROLES}
    alone = val is None and test is None and [path.absolute() for path in annotations] == [images.absolute()]
    other = import_folder(images, made.values()) if alone else None
    if other is not None:
        return _study_files(_Contents(other.images, other.sources, other.contents, list(other.notes)), made, True)
    return _study_files(_coco_contents(images, annotations, val, test, made.values()), made)


@dataclass(frozen=True)
class _Contents:
    """A data set as it was read.

    Attributes:
        images: Folder of the images, or one above it.
        paths: What each split was read from.
        contents: COCO content of each split.
        notes: What was found, each a sentence.
    """

    images: Path
    paths: dict[str, Path]
    contents: dict[str, dict[str, Any]]
    notes: list[str]


def _coco_contents(
    images: Path, annotations: Sequence[Path], val: Path | None, test: Path | None, leave_out: Collection[Path]
) -> _Contents:
    paths, notes = split_files(annotations, val, test, leave_out=leave_out)
    contents = {role: read_content(path) for role, path in paths.items()}
    return _Contents(_above_splits(images, paths), paths, contents, notes)


def _study_files(read: _Contents, made: dict[str, Path], converted: bool = False) -> FoundData:
    """Name the files of a data set for a study, divided where there is no validation split.

    Args:
        read: The data set.
        made: Where new annotation files go, by split.
        converted: Whether it is of another format, so that its content is to be written.
    """
    images, paths, contents, notes = read.images, read.paths, read.contents, read.notes
    splits, prefixes = {}, {}
    for role, path in paths.items():
        names = listed_files(contents[role], path)
        prefix = "" if converted else image_folder(images, path, role, names)
        check_files_exist(images / prefix, names, path)
        prefixes[role] = prefix
        splits[role], _ = parse_annotations(contents[role], path, images / prefix, name=role, on_bad_boxes="repair")
    if len(set(prefixes.values())) == 1:  # one folder for all: the names are right as they are
        images /= prefixes["train"]
        prefixes = dict.fromkeys(prefixes, "")
    chosen = {role: np.arange(len(split)) for role, split in splits.items()}
    origin = dict(zip(paths, paths, strict=True))
    if "val" not in paths:
        videos = videos_of(contents["train"])
        chosen["train"], chosen["val"] = divide(splits["train"], videos)
        origin["val"] = "train"
        were = "was" if len(chosen["val"]) == 1 else "were"
        notes.append(
            f"there is no validation split: {len(chosen['val'])} of the {len(splits['train'])} images of "
            f"{paths['train'].name} {were} put aside for it, classes in proportion, always the same ones"
            + about_videos(videos, chosen["train"], chosen["val"])
        )
    found, files = {}, {}
    for role in ("train", "val", "test"):
        if role not in origin:
            continue
        source = paths[origin[role]]
        prefix = prefixes[origin[role]]
        found[role] = source.absolute()
        if prefix or converted or ("val" not in paths and role != "test"):
            found[role] = made[role]
            files[found[role]] = _part(contents[origin[role]], chosen[role], prefix)
        if prefix:
            notes.append(f"the images of {role} are in {images / prefix}: {found[role].name} names them from {images}")
    data = DataSpec(images=images.absolute(), train=found["train"], val=found["val"], test=found.get("test"))
    read_from = tuple(path for path in set(paths.values()) if path.is_file())
    return FoundData(data, files, tuple(notes), read_from)


def _above_splits(images: Path, paths: dict[str, Path]) -> Path:
    """The image folder, or the one above it where it is the training split's own and another split's is beside it."""
    folders = {role: path.absolute().parent for role, path in paths.items()}
    own = images.absolute()
    beside = [folder for folder in folders.values() if folder != own and folder.parent == own.parent]
    return own.parent if folders["train"] == own and beside else images


def _part(content: dict[str, Any], chosen: NDArray[np.int64], prefix: str) -> dict[str, Any]:
    """The content of an annotation file with some of its images alone, their names under a folder."""
    images = [content["images"][i] for i in chosen.tolist()]
    ids = {image["id"] for image in images}
    return {
        **content,
        "images": [{**image, "file_name": (Path(prefix) / image["file_name"]).as_posix()} for image in images],
        "annotations": [row for row in content["annotations"] if row["image_id"] in ids],
    }
