"""Finding annotation files, and out of their names which split each of them is."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from tuner.config.errors import DataError, listed
from tuner.data.json_file import read_json
from tuner.data.other_formats import (
    CONVERT,
    json_files,
    lists_images,
    refuse_other_formats,
    refuse_other_json,
)
from tuner.data.roles import ROLES, role_of

_BESIDE_INSTANCES = ("captions_", "image_info_", "panoptic_", "person_keypoints_", "stuff_")
"""How files begin that COCO has beside its instances_*.json, about the same images."""
_NAME_THEM = "Give the training file as --annotations, and the others as --val and --test."


def split_files(
    annotations: Sequence[Path],
    val: Path | None = None,
    test: Path | None = None,
    *,
    leave_out: Collection[Path] = (),
    remedy: str = _NAME_THEM,
) -> tuple[dict[str, Path], list[str]]:
    """Which file is which split, by names such as val.json, instances_train2017.json, valid/_annotations.coco.json.

    Args:
        annotations: COCO JSON files, or folders with such files.
        val: The validation split, where the name does not say it.
        test: The test split, likewise.
        leave_out: Absolute paths of files in those folders that are none of the data set's own.
        remedy: What to do where it cannot be told.

    Returns:
        Paths by "train", "val" and "test" (train is always there), and sentences on what was found.

    Raises:
        DataError: A file is missing, two files have the same role, no file can be told to be the training split, or
            the files are of another format.
    """
    named = {role: path for role, path in (("val", val), ("test", test)) if path is not None}
    others = {path.absolute() for path in named.values()}  # not to be found once more
    files: list[Path] = []
    left_out: list[Path] = []
    for path in annotations:
        taken, rest = _expand(path, {*leave_out, *others}) if path.is_dir() else ([path], [])
        files += taken
        left_out += rest
    for path in (*files, *named.values()):
        if not path.is_file():
            raise DataError(f"the annotation file {path} does not exist", hint="Check --annotations, --val and --test.")
    found = dict(named)
    nameless = []
    for file in files:
        role = role_of(file)
        if file.absolute() in others:
            continue
        if role is None or (role != "train" and len(files) == 1):  # a lone file is what is trained on
            nameless.append(file)
        elif role in named:
            left_out.append(file)
        elif role in found:
            _refuse_no_coco(files)
            raise DataError(f"{found[role]} and {file} both look like the {role} split", hint=remedy)
        else:
            found[role] = file
    if "train" not in found and len(nameless) == 1:
        found["train"] = nameless.pop()
    if "train" not in found or nameless:
        _refuse_no_coco(files)
        raise DataError(f"cannot tell which split this is: {listed(nameless or files) or 'no file'}", hint=remedy)
    notes = []
    if left_out:
        notes.append(
            f"left out: {listed(sorted(left_out))}; a file that belongs to the data set is named by --annotations, "
            "--val or --test"
        )
    if len(files) == 1:
        for role in ("val", "test"):
            beside = _beside(found["train"], role)
            if role not in found and beside is not None:
                found[role] = beside
                notes.append(f"{beside} lies beside {found['train'].name} and is taken as the {role} split")
    return found, notes


def _expand(folder: Path, apart: Collection[Path]) -> tuple[list[Path], list[Path]]:
    """The annotation files of a folder, and those that are left out; files apart are neither.

    Beside a training split, what says no split is left out. Without one, it may be the training split itself.
    """
    files = [file for file in json_files(folder) if file.absolute() not in apart]
    if not files:
        refuse_other_formats(folder)
        raise DataError(
            f"there is no annotation file in {folder}",
            hint="Name the COCO JSON files themselves; convert what is in another format, such as CSV, to it first.",
        )
    taken = files
    if any(role_of(file) == "train" for file in files):
        taken = [file for file in files if role_of(file)]
    if any(file.name.startswith("instances_") for file in taken):
        taken = [file for file in taken if not file.name.startswith(_BESIDE_INSTANCES)]
    return taken, [file for file in files if file not in taken]


def _refuse_no_coco(files: Sequence[Path]) -> None:
    """Raise a `DataError` where none of several files is COCO's, as tools write one for each image."""
    if files:
        smallest = min(files, key=lambda file: file.stat().st_size)
        refuse_other_json(read_json(smallest, "annotation file"), smallest)
        if not any(map(lists_images, files)):
            raise DataError(f"no JSON file lists images, as COCO's do: {listed(files)}", hint=CONVERT)


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
