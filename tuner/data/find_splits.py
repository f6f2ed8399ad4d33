"""Finding out which annotation file is which split, and splitting where there is one only."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.config.errors import DataError
from tuner.config.study import DataSpec
from tuner.data.annotations import listed_files, parse_annotations, read_content
from tuner.data.check import check_files_exist
from tuner.data.find_images import ROLES, image_folder
from tuner.data.split import Split

VAL_SHARE = 0.2
"""Share of the images that go to validation where a data set comes without a validation split."""


@dataclass(frozen=True)
class FoundData:
    """A data set ready to be named in a study file.

    Attributes:
        data: Absolute paths of the splits, which exist once `files` are written.
        files: Annotation files to be written, with their content: splits that were made here, and files whose
            image names must start from the image folder.
        notes: What was found and decided, each a sentence.
    """

    data: DataSpec
    files: dict[Path, dict[str, Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def find_data(
    images: Path, annotations: Sequence[Path], val: Path | None, test: Path | None, *, stem: Path
) -> FoundData:
    """Find the splits of a data set.

    Args:
        images: Folder of the images, or a folder above it.
        annotations: COCO JSON files, or folders with such files; what each is says its name or its folder's.
        val: The validation split, where the name does not say it.
        test: The test split, likewise.
        stem: Where new annotation files go: `stem` + ".train.json" and so on.

    Raises:
        DataError: A file, folder or image is missing or broken, or the names do not say which split is which.
    """
    if not images.is_dir():
        raise DataError(f"the folder {images} does not exist", hint="Check the path.")
    made = {role: stem.with_name(f"{stem.name}.{role}.json").absolute() for role in ROLES}
    paths, notes = split_files(annotations, val, test, leave_out=made.values())
    contents = {role: read_content(path) for role, path in paths.items()}
    splits, prefixes = {}, {}
    for role, path in paths.items():
        names = listed_files(contents[role], path)
        prefix = image_folder(images, path, role, names)
        check_files_exist(images / prefix, names)
        prefixes[role] = prefix
        splits[role], _ = parse_annotations(contents[role], path, images / prefix, name=role, on_bad_boxes="repair")
    if len(set(prefixes.values())) == 1:  # one folder for all: the names are right as they are
        images /= prefixes["train"]
        prefixes = dict.fromkeys(prefixes, "")
    chosen = {role: np.arange(len(split)) for role, split in splits.items()}
    origin = dict(zip(paths, paths, strict=True))
    if "val" not in paths:
        chosen["train"], chosen["val"] = divide(splits["train"])
        origin["val"] = "train"
        notes.append(
            f"there is no validation split: {len(chosen['val'])} of the {len(splits['train'])} images of "
            f"{paths['train'].name} were put aside for it, classes in proportion, always the same ones"
        )
    found, files = {}, {}
    for role in ("train", "val", "test"):
        if role not in origin:
            continue
        source = paths[origin[role]]
        prefix = prefixes[origin[role]]
        found[role] = source.absolute()
        if prefix or ("val" not in paths and role != "test"):
            found[role] = made[role]
            files[found[role]] = _part(contents[origin[role]], chosen[role], prefix)
        if prefix:
            notes.append(f"the images of {role} are in {images / prefix}: {found[role].name} names them from {images}")
    data = DataSpec(images=images.absolute(), train=found["train"], val=found["val"], test=found.get("test"))
    return FoundData(data, files, tuple(notes))


def split_files(
    annotations: Sequence[Path],
    val: Path | None = None,
    test: Path | None = None,
    *,
    leave_out: Collection[Path] = (),
) -> tuple[dict[str, Path], list[str]]:
    """Which file is which split, by names such as val.json, instances_train2017.json, valid/_annotations.coco.json.

    Args:
        annotations: COCO JSON files, or folders with such files.
        val: The validation split, where the name does not say it.
        test: The test split, likewise.
        leave_out: Absolute paths of files in those folders that are none of the data set's own.

    Returns:
        Paths by "train", "val" and "test" (train is always there), and sentences on what was found.

    Raises:
        DataError: A file is missing, two files have the same role, or no file can be told to be the training split.
    """
    notes: list[str] = []
    files = [file for path in annotations for file in _expand(path, leave_out)]
    found = {role: path for role, path in (("val", val), ("test", test)) if path is not None}
    for path in (*files, *found.values()):
        if not path.is_file():
            raise DataError(f"the annotation file {path} does not exist", hint="Check --annotations, --val and --test.")
    nameless = []
    for file in files:
        role = role_of(file)
        if file in found.values():
            continue
        if role is None or (role != "train" and len(files) == 1):  # a lone file is what is trained on
            nameless.append(file)
        elif role in found:
            if found[role] not in (val, test):
                raise DataError(f"{found[role]} and {file} both look like the {role} split", hint=_NAME_THEM)
        else:
            found[role] = file
    if "train" not in found and len(nameless) == 1:
        found["train"] = nameless.pop()
    if "train" not in found or nameless:
        unclear = ", ".join(map(str, nameless or files)) or "no file"
        raise DataError(f"cannot tell which split this is: {unclear}", hint=_NAME_THEM)
    if len(files) == 1:
        for role in ("val", "test"):
            beside = _beside(found["train"], role)
            if role not in found and beside is not None:
                found[role] = beside
                notes.append(f"{beside} lies beside {found['train'].name} and is taken as the {role} split")
    return found, notes


_NAME_THEM = "Give the training file as --annotations, and the others as --val and --test."


def role_of(path: Path) -> str | None:
    """The split that a word of the file's name is, or else its folder's whole name; None where neither is one."""
    words = set(re.split(r"[^a-z]+", path.stem.lower()))
    folder = {path.absolute().parent.name.lower().rstrip("0123456789")}
    for found in (words, folder):
        for role, synonyms in ROLES.items():
            if found.intersection(synonyms):
                return role
    return None


def divide(split: Split, share: float = VAL_SHARE) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide images so that every class has about its share of images on both sides.

    The rarest class is divided first, then the next among the images left, at last the images without
    objects. Who goes where depends on the file names alone.

    Returns:
        Indices of the images to train on and of those to validate on, both ascending.

    Raises:
        DataError: There are fewer than two images, or fewer than two with objects.
    """
    if len(split) < 2:
        raise DataError(
            f"one image cannot be divided into training and validation: {split.file_names[0]}",
            hint="Annotate more images, or name a file of validation images as --val.",
        )
    draw = np.array([int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) for name in split.file_names])
    holds = np.zeros((len(split), len(split.classes) + 1), np.bool_)
    holds[split.image_index[~split.crowd], split.labels[~split.crowd]] = True
    shows = holds.any(axis=1)
    if shows.sum() < 2:
        raise DataError(
            f"of {len(split)} images only {split.file_names[np.flatnonzero(shows)[0]]} shows objects, "
            "but training and validation need one each",
            hint="Annotate more images, or name a file of validation images as --val.",
        )
    holds[:, -1] = True  # every image, for those without objects
    side = np.full(len(split), -1)
    for column in np.argsort(holds.sum(axis=0), kind="stable").tolist():
        members = np.flatnonzero(holds[:, column])
        free = members[side[members] < 0]
        wanted = max(round(share * len(members)), min(1, len(members) // 2)) - int((side[members] == 1).sum())
        ordered = free[np.argsort(draw[free])]
        side[ordered] = np.arange(len(ordered)) < wanted
    # Classes of a single image each stay in training, which may leave nothing to validate on.
    short = max(1, round(share * int(shows.sum()))) - int((side[shows] == 1).sum())
    movable = np.flatnonzero(shows & (side == 0))
    alone = (holds[movable] & (holds[side == 0].sum(axis=0) == 1)).any(axis=1)
    side[movable[np.lexsort((draw[movable], alone))][: max(0, short)]] = 1
    return np.flatnonzero(side == 0), np.flatnonzero(side == 1)


def _expand(path: Path, leave_out: Collection[Path]) -> list[Path]:
    """The annotation files of a folder; a file is itself."""
    if not path.is_dir():
        return [path]
    files = sorted(file for pattern in ("*.json", "*/*.json") for file in path.glob(pattern))
    files = [file for file in files if file.absolute() not in leave_out]
    files = [file for file in files if role_of(file)] or files
    instances = [file for file in files if file.name.startswith("instances_")]  # COCO has captions and more beside
    if not files:
        raise DataError(f"there is no annotation file in {path}", hint="Name the COCO JSON files themselves.")
    return instances or files


def _beside(train: Path, role: str) -> Path | None:
    """The file of another split that is named like the training file."""
    train = Path(os.path.abspath(train))  # noqa: PTH100 (a link's own name counts, not its target's)
    for word in ROLES[role]:
        for path in (
            train.with_name(train.name.replace("train", word)),
            train.parent.with_name(train.parent.name.replace("train", word)) / train.name,
        ):
            if path != train and path.is_file():
                return path
    return None


def _part(content: dict[str, Any], chosen: NDArray[np.int64], prefix: str) -> dict[str, Any]:
    """The content of an annotation file with some of its images alone, their names under a folder."""
    images = [content["images"][i] for i in chosen.tolist()]
    ids = {image["id"] for image in images}
    return {
        **content,
        "images": [{**image, "file_name": (Path(prefix) / image["file_name"]).as_posix()} for image in images],
        "annotations": [row for row in content["annotations"] if row["image_id"] in ids],
    }
