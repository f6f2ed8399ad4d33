"""Which XML files of a Pascal VOC data set are which split: by its lists, or by its folders."""

from __future__ import annotations

from pathlib import Path

from tuner.config.errors import DataError
from tuner.data.files import files_under
from tuner.data.imported import raise_faults, read_lines
from tuner.data.roles import ROLES, role_named, splits_by_folders, with_training

_SETS = Path("ImageSets/Main")
_ANNOTATE = "Write an XML file without objects for images that show none."


def voc_homes(folder: Path) -> list[Path]:
    """The folders with ImageSets/Main in them: the given one, or else those under it."""
    if (folder / _SETS).is_dir():
        return [folder]
    return sorted({file.parents[2] for file in files_under(folder) if file.parent.parts[-2:] == _SETS.parts})


def voc_files(folder: Path) -> tuple[dict[str, list[Path]], list[str]]:
    """XML files by split, and what is worth a word, each a sentence.

    The lists in ImageSets/Main say which split they are, of the folder or of the only one in it that has such lists, as
    VOCdevkit holds VOC2007. Without lists the names of folders say it, and without those all files are for training.

    Raises:
        DataError: A list names what is not there; there are several data sets, or nothing to train on.
    """
    homes = voc_homes(folder)
    if len(homes) > 1:
        raise DataError(
            f"{folder} holds several Pascal VOC data sets: {', '.join(map(str, homes))}",
            hint=f"Give the one that is meant, such as {homes[0]}.",
        )
    for home in homes:
        lists, notes = _lists(home)
        if lists or notes:
            splits, more = _splits(lists, home)
            return splits, [f"the lists in {home / _SETS} say what the splits are"] * (home != folder) + notes + more
    return with_training(*splits_by_folders(_xml_under(folder), folder), folder, "XML files")


def _lists(home: Path) -> tuple[dict[str, Path], list[str]]:
    """The lists by the split that they are named like, "trainval" apart from "train", and a sentence on empty ones."""
    found: dict[str, Path] = {}
    notes = []
    for path in sorted((home / _SETS).glob("*.txt")):
        role = role_named(path.stem)
        if role is None:
            continue
        if path.stem.lower().startswith("trainval"):
            role = "trainval"
        if not any(map(str.strip, read_lines(path))):
            notes.append(f"{path} is empty: it makes no {role} split")
        elif role in found:
            raise DataError(
                f"{found[role]} and {path} are both lists of {role}", hint="Remove or rename the one that is not meant."
            )
        else:
            found[role] = path
    return found, notes


def _splits(lists: dict[str, Path], home: Path) -> tuple[dict[str, list[Path]], list[str]]:
    """The XML files that lists name; those that are in none are trained on where no list is for training."""
    if "trainval" in lists and not {"train", "val"} <= lists.keys():  # one of its two parts would be a part only
        lists = {"train": lists["trainval"], **{role: path for role, path in lists.items() if role == "test"}}
    splits = {role: _listed(lists[role], home / "Annotations") for role in ROLES if role in lists}
    if "train" in splits:
        return splits, []
    listed = {path for paths in splits.values() for path in paths}
    return with_training(splits, [path for path in _xml_under(home) if path not in listed], home, "XML files")


def _listed(path: Path, annotations: Path) -> list[Path]:
    """The XML files of the ids in a list of VOC's."""
    found = []
    faults = []
    for number, line in enumerate(read_lines(path), start=1):
        if name := line.strip():
            file = annotations / f"{name}.xml"
            if file.is_file():
                found.append(file)
            else:
                faults.append(f"{path}:{number}: there is no {file}")
    raise_faults(faults, f"Remove the line, or bring the file back. {_ANNOTATE}")
    return found


def _xml_under(folder: Path) -> list[Path]:
    return [path for path in files_under(folder) if path.suffix.lower() == ".xml"]
