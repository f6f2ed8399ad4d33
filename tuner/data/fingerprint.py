"""`Fingerprint`: what identifies a data set on any machine, and what differs between two."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tuner.config.base import Frozen
from tuner.config.errors import DataError
from tuner.config.study import DataSpec
from tuner.data.coco import Dataset
from tuner.data.split import Split

RANGES = 64
"""Ranges of images that have a digest of their own."""


class SplitFingerprint(Frozen):
    """One split: SHA-256 digests (hex) for equality, the rest for messages.

    Attributes:
        images: Number of images.
        boxes: Number of boxes.
        classes: Their names.
        annotations: Digest of all that the annotation file says, the file names aside.
        file_names: Digest.
        file_sizes: Digest of the image files' sizes in bytes.
        class_boxes: Boxes of each class; None in fingerprints of before there were these.
        ranges: Of up to `RANGES` ranges of images, four hex digits each for what is said of them and their sizes in
            bytes, likewise: enough to find where two fingerprints differ, not to tell that they do not.
    """

    images: int
    boxes: int
    classes: tuple[str, ...]
    annotations: str
    file_names: str
    file_sizes: str
    class_boxes: tuple[int, ...] | None = None
    ranges: str | None = None

    @property
    def identity(self) -> str:
        """SHA-256 (hex) of what tells the split from others: its annotations, file names and sizes in bytes."""
        return _digest(part.encode() for part in (self.annotations, self.file_names, self.file_sizes))


class Fingerprint(Frozen):
    """A data set, free of folders, of the JSON's formatting and of file times."""

    on_bad_boxes: str
    train: SplitFingerprint
    val: SplitFingerprint
    test: SplitFingerprint | None

    def differences(self, other: Fingerprint, dataset: Dataset) -> list[str]:
        """What differs in `other`, that of a data set, each a sentence; empty when both are the same data set."""
        found = []
        if self.on_bad_boxes != other.on_bad_boxes:
            found.append(f"on_bad_boxes is {other.on_bad_boxes!r}, was {self.on_bad_boxes!r}")
        for name in ("train", "val", "test"):
            mine: SplitFingerprint | None = getattr(self, name)
            theirs: SplitFingerprint | None = getattr(other, name)
            split: Split | None = getattr(dataset, name)
            if mine is None or theirs is None or split is None:
                if mine is not theirs:
                    found.append(f"{name}: the split is {'new' if mine is None else 'missing'}")
                continue
            found += [f"{name}: {sentence}" for sentence in _differences(mine, theirs, split)]
            copies = dataset.reports[name].doubled
            if self.on_bad_boxes == other.on_bad_boxes == "repair" and mine.boxes - theirs.boxes == copies > 0:
                found.append(
                    f"{name}: as many boxes as are missing are copies of others, which repair kept in earlier versions "
                    "and leaves out now: the files may be unchanged"
                )
        return found


def _differences(mine: SplitFingerprint, theirs: SplitFingerprint, split: Split) -> list[str]:
    found = [
        f"{theirs_count} {what}, was {mine_count}"
        for what, mine_count, theirs_count in (
            ("images", mine.images, theirs.images),
            ("boxes", mine.boxes, theirs.boxes),
            ("classes", len(mine.classes), len(theirs.classes)),
        )
        if mine_count != theirs_count
    ]
    if len(mine.classes) == len(theirs.classes) and mine.classes != theirs.classes:
        found.append(f"classes are {', '.join(theirs.classes)}, were {', '.join(mine.classes)}")
    elif mine.class_boxes and theirs.class_boxes and mine.classes == theirs.classes:
        counts = zip(mine.classes, mine.class_boxes, theirs.class_boxes, strict=True)
        found += [f"{now} boxes of {name}, was {before}" for name, before, now in counts if before != now]
    if mine.images == theirs.images and mine.file_names != theirs.file_names:
        found.append("other image files, or in another order")
    elif mine.file_names == theirs.file_names and mine.file_sizes != theirs.file_sizes:
        found.append("image files have other sizes in bytes")
    if not found and mine.annotations != theirs.annotations:
        found.append("as many boxes of each class, but other ids, image sizes, boxes or areas")
    if found and mine.images == theirs.images and (where := _first_difference(mine, theirs, split)):
        found[-1] += f"; the first difference is in {where}"
    return found


def _first_difference(mine: SplitFingerprint, theirs: SplitFingerprint, split: Split) -> str:
    """The first images that differ, as far as is known; empty where nothing is."""
    before, now = mine.ranges or "", theirs.ranges or ""
    bounds = _bounds(len(split))
    for i, (start, end) in enumerate(pairwise(bounds)):
        if len(before) == len(now) and before[4 * i : 4 * i + 4] != now[4 * i : 4 * i + 4]:
            names = split.file_names[start:end]
            return names[0] if len(names) == 1 else f"one of {len(names)} images, {names[0]} to {names[-1]}"
    return ""


def fingerprint(spec: DataSpec, dataset: Dataset) -> Fingerprint:
    """The fingerprint of a loaded data set; looks at the image files' sizes in bytes, not at their contents.

    Raises:
        DataError: An image file is missing.
    """
    test = dataset.test
    return Fingerprint(
        on_bad_boxes=spec.on_bad_boxes,
        train=split_fingerprint(dataset.train),
        val=split_fingerprint(dataset.val),
        test=None if test is None else split_fingerprint(test),
    )


def refuse_other_data(begun: Fingerprint, spec: DataSpec, dataset: Dataset, study: str = "the study") -> None:
    """Check that a loaded data set is the one that a study was begun with.

    Args:
        begun: The fingerprint of that one.
        spec: Says where the loaded one is.
        dataset: The loaded one.
        study: The study's name for a reader.

    Raises:
        DataError: It differs; says in what. Or an image file is missing.
    """
    differs = begun.differences(fingerprint(spec, dataset), dataset)
    if differs:
        raise DataError(
            f"the data in {spec.root} are not those that {study} was begun with:\n  " + "\n  ".join(differs),
            hint="Bring the old data back, or begin another study under another name; the results of this one stay.",
        )


def split_fingerprint(split: Split) -> SplitFingerprint:
    """The fingerprint of one split; see `fingerprint`."""
    try:
        file_sizes = np.array([path.stat().st_size for path in split.paths], np.int64)
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read: {error.strerror}") from error
    boxes = (split.boxes, split.areas, split.labels, split.crowd, split.annotation_ids)
    numbers = (split.image_ids, split.sizes, *boxes, split.offsets, np.array(split.category_ids, np.int64))
    return SplitFingerprint(
        images=len(split),
        boxes=len(split.boxes),
        classes=split.classes,
        annotations=_digest([*(_bytes(array) for array in numbers), *(name.encode() for name in split.classes)]),
        file_names=_digest(os.fsencode(name) for name in split.file_names),
        file_sizes=_digest([_bytes(file_sizes)]),
        class_boxes=tuple(np.bincount(split.labels, minlength=len(split.classes)).tolist()),
        ranges="".join(_range(split, file_sizes, start, end) for start, end in pairwise(_bounds(len(split)))),
    )


def _bounds(images: int) -> list[int]:
    """Where ranges of images begin, and the last one ends."""
    count = min(RANGES, images)
    return [images * i // count for i in range(count + 1)]


def _range(split: Split, file_sizes: NDArray[np.int64], start: int, end: int) -> str:
    """Four hex digits for the images of a range."""
    of_images = (split.image_ids, split.sizes, np.diff(split.offsets), file_sizes)
    of_boxes = (split.boxes, split.areas, split.labels, split.crowd, split.annotation_ids)
    first, last = split.offsets[start], split.offsets[end]
    parts = [*(array[start:end] for array in of_images), *(array[first:last] for array in of_boxes)]
    return _digest([*map(_bytes, parts), *(os.fsencode(name) for name in split.file_names[start:end])])[:4]


def _bytes(array: np.ndarray) -> bytes:
    """The same bytes on machines of either byte order."""
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _digest(parts: Iterable[bytes]) -> str:
    total = hashlib.sha256()
    for part in parts:
        total.update(len(part).to_bytes(8, "little"))
        total.update(part)
    return total.hexdigest()
