"""A Pascal VOC data set as COCO content."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tuner.config.errors import DataError
from tuner.data.files import images_under
from tuner.data.image_checks import header_sizes
from tuner.data.images import IMAGE_SUFFIXES
from tuner.data.imported import (
    ImportedData,
    ImportedImage,
    ImportedObject,
    imported,
    raise_faults,
)
from tuner.data.voc import VocFile, read_voc
from tuner.data.voc_files import voc_files


def import_voc(folder: Path) -> ImportedData:
    """Read a data set in Pascal VOC's format, whose classes are those of its files, by name.

    Objects that are marked difficult are neither learnt nor looked for, as VOC's evaluation has it: they become
    COCO's crowd regions, which are the only ones that COCO's evaluation passes over.

    Args:
        folder: With Annotations, JPEGImages and ImageSets/Main, or with one such folder in it, as VOCdevkit; or with an
            XML file beside each image.

    Raises:
        DataError: A file is broken, or its image missing or of another size; the lists name what is not there; there
            is nothing to train on, all objects of a split are marked difficult, or there are several data sets.
    """
    folder = folder.absolute()
    xml_files, notes = voc_files(folder)
    files = {role: _read_all(paths) for role, paths in xml_files.items()}
    everything = [file for of_role in files.values() for file in of_role]
    objects = [each for file in everything for each in file.objects]
    classes = {name: number for number, name in enumerate(sorted({each.name for each in objects}), start=1)}
    first = 0 if any(min(each.corners[:2]) < 1 for each in objects) else 1
    if first == 0:
        notes.append("corners are counted from 0 here, since some are 0; VOC's own files count from 1")
    difficult = sum(each.difficult for each in objects)
    if difficult:
        notes.append(
            f"{difficult} of {len(objects)} objects are marked difficult: they are written as crowd regions "
            "(iscrowd 1), so they are neither learnt nor counted as missed, and detections on them are not counted"
        )
    for role, of_role in files.items():
        marks = [each.difficult for file in of_role for each in file.objects]
        if marks and all(marks):
            raise DataError(
                f"{folder}: all {len(marks)} objects of {role} are marked difficult, so there is none to learn or to "
                "find",
                hint="Set <difficult> to 0 for the objects that a detector shall find.",
            )
    splits = {role: _with_images(of_role, classes, first) for role, of_role in files.items()}
    seen = {image.path for images in splits.values() for image in images}
    left = [path for path in images_under(folder) if path not in seen]
    if left:
        notes.append(f"left out: {len(left)} images that have no XML file or are in no list, such as {left[0]}")
    notes.insert(0, f"{folder} holds a Pascal VOC data set: its XML is written as COCO JSON")
    return imported(splits, {number: name for name, number in classes.items()}, dict.fromkeys(splits, folder), notes)


def _read_all(paths: Sequence[Path]) -> list[VocFile]:
    """Read XML files; every one that is broken is named."""

    def file_or_fault(path: Path) -> VocFile | DataError:
        try:
            return read_voc(path)
        except DataError as error:
            return error

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(file_or_fault, paths))
    faults = [each for each in found if isinstance(each, DataError)]
    raise_faults([fault.message for fault in faults], faults[0].hint if faults else "")
    return [each for each in found if isinstance(each, VocFile)]


def _with_images(files: Iterable[VocFile], classes: dict[str, int], first: int) -> list[ImportedImage]:
    """Files with their images, whose sizes must be what the files say."""
    images = [(file, _image_of(file)) for file in files]
    raise_faults(
        [
            f"{file.path}: there is no image {file.path.stem}" + (f" or {file.filename!r}" if file.filename else "")
            for file, path in images
            if not path
        ],
        "Put it into JPEGImages, or beside the XML file, under one of these names.",
    )
    paths = [path for _, path in images if path is not None]
    sizes: list[tuple[int, int]] = [(width, height) for width, height in header_sizes(paths).tolist()]
    found, faults = [], []
    for (file, _), path, size in zip(images, paths, sizes, strict=True):
        if file.size is not None and file.size != size:
            faults.append(
                f"{file.path}:{file.size_line}: size {file.size[0]} x {file.size[1]}, but {path} is {size[0]} x "
                f"{size[1]}"
            )
        objects = (
            ImportedObject(classes[each.name], each.box(first), each.difficult, each.rotation) for each in file.objects
        )
        found.append(ImportedImage(path, size, tuple(objects)))
    raise_faults(
        faults,
        "The boxes may not fit these images: use those that were annotated; where an EXIF orientation turns them, "
        "rotate the pixels or remove the tag, whichever the boxes were drawn on.",
    )
    return found


def _image_of(file: VocFile) -> Path | None:
    """The image of a file: named like it, or as it says, in one of the folders that may hold it."""
    for place in _image_folders(file.path.parent):
        for ending in IMAGE_SUFFIXES:
            for name in (file.path.stem + ending, file.path.stem + ending.upper()):
                if (place / name).is_file():
                    return place / name
        if file.filename and (place / Path(file.filename.replace("\\", "/")).name).is_file():
            return place / Path(file.filename.replace("\\", "/")).name
    return None


def _image_folders(folder: Path) -> Iterator[Path]:
    """Where the images of XML files in a folder may be: there, beside it, or in images/train for annotations/train."""
    yield folder
    parts = list(folder.parts)
    mirrored = [i for i, part in enumerate(parts) if part.lower() == "annotations"][-1:]
    for name in ("JPEGImages", "images"):
        yield folder.parent / name
        for i in mirrored:
            yield Path(*parts[:i], name, *parts[i + 1 :])
