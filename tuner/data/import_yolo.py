"""A YOLO data set as COCO content."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tuner.config.errors import DataError, listed
from tuner.config.source import Section
from tuner.data.images import IMAGE_SUFFIXES
from tuner.data.imported import ImportedData, imported, raise_faults
from tuner.data.yolo import is_yolo, labelled
from tuner.data.yolo_files import by_folders, by_yaml, label_file


def import_yolo(folder: Path, data: Section | None) -> ImportedData:
    """Read a data set in YOLO's format, whose class indices become the ids of the categories.

    Args:
        folder: Of images and labels.
        data: Its data.yaml, or what is read like one, where it has that.

    Raises:
        DataError: data.yaml, a list of images or a label is wrong, with file and line; labels are of no image.
    """
    files = by_folders(Path(folder).absolute()) if data is None else by_yaml(data)
    notes = [f"{files.source} describes a YOLO data set: its labels are written as COCO JSON", *files.notes]
    splits = {}
    for role, images in files.images.items():
        labels = [label_file(image) for image in images]
        _refuse_labels_alone(images, labels)
        notes += _shared_labels(images, labels, role)
        found = labelled(images, labels, files.names, files.keypoints)
        if found.unlabelled == len(images):
            if role == "test":
                notes.append(f"none of the {len(images)} test images has labels: there is no test split")
                continue
            raise DataError(
                f"{files.source}: none of the {len(images)} images of {role} has a file of labels; {images[0]} would "
                f"have {labels[0]}",
                hint="Put the labels there; images/ in the path of an image is labels/ in that of its labels.",
            )
        if found.unlabelled:
            notes.append(
                f"{found.unlabelled} of {len(images)} images of {role} have no file of labels: they count as images "
                "without objects"
            )
        if found.polygons:
            notes.append(f"{found.polygons} labels of {role} are polygons: the boxes around them are taken")
        splits[role] = found.images
    if files.keypoints:
        notes.append("the keypoints of the labels are left out, their boxes are taken")
    return imported(splits, files.names, dict.fromkeys(splits, files.source), notes)


def _shared_labels(images: Sequence[Path], labels: Sequence[Path], role: str) -> list[str]:
    """A sentence where images that differ in their ending alone have one file of labels."""
    first: dict[Path, Path] = {}
    shared = [
        f"{first[label]} and {image}"
        for image, label in zip(images, labels, strict=True)
        if first.setdefault(label, image) != image
    ]
    if not shared:
        return []
    return [f"images of {role} have one file of labels for two of them, which show the same objects: {listed(shared)}"]


def _refuse_labels_alone(images: Sequence[Path], labels: Sequence[Path]) -> None:
    """Refuse labels in the folders of these that no image has, though the images' own folders may hold further ones."""
    beside = {label.parent: image.parent for image, label in zip(images, labels, strict=True)}
    faults = []
    for folder, of_images in beside.items():
        stems = {path.stem for path in of_images.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES}
        alone = [file for file in sorted(folder.glob("*.txt")) if file.stem not in stems and is_yolo(file)]
        faults += [f"{file}: there is no image {file.stem} in {of_images}" for file in alone]
    known = ", ".join(IMAGE_SUFFIXES)
    raise_faults(faults, f"Bring the image back, as one of {known}, or remove its file of labels.")
