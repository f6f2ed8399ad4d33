"""`Fingerprint`: what identifies a data set on any machine, and what differs between two."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

from tuner.config.base import Frozen
from tuner.config.errors import DataError
from tuner.config.study import DataSpec
from tuner.data.coco import Dataset
from tuner.data.split import Split


class SplitFingerprint(Frozen):
    """One split: counts for messages, SHA-256 digests (hex) for equality."""

    images: int
    boxes: int
    classes: tuple[str, ...]
    annotations: str
    file_names: str
    file_sizes: str


class Fingerprint(Frozen):
    """A data set, free of folders, of the JSON's formatting and of file times."""

    on_bad_boxes: str
    train: SplitFingerprint
    val: SplitFingerprint
    test: SplitFingerprint | None

    def differences(self, other: Fingerprint) -> list[str]:
        """What differs in `other`, each a sentence; empty when both are the same data set."""
        found = []
        if self.on_bad_boxes != other.on_bad_boxes:
            found.append(f"on_bad_boxes is {other.on_bad_boxes!r}, was {self.on_bad_boxes!r}")
        for name in ("train", "val", "test"):
            mine: SplitFingerprint | None = getattr(self, name)
            theirs: SplitFingerprint | None = getattr(other, name)
            if mine is None or theirs is None:
                if mine is not theirs:
                    found.append(f"{name}: the split is {'new' if mine is None else 'missing'}")
                continue
            found += [f"{name}: {sentence}" for sentence in _differences(mine, theirs)]
        return found


def _differences(mine: SplitFingerprint, theirs: SplitFingerprint) -> list[str]:
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
    if mine.images == theirs.images and mine.file_names != theirs.file_names:
        found.append("other image files, or in another order")
    elif mine.file_names == theirs.file_names and mine.file_sizes != theirs.file_sizes:
        found.append("image files have other sizes in bytes")
    if not found and mine.annotations != theirs.annotations:
        found.append("other annotations")
    return found


def fingerprint(spec: DataSpec, dataset: Dataset) -> Fingerprint:
    """The fingerprint of a loaded data set; looks at the image files' sizes in bytes, not at their contents.

    Raises:
        DataError: An image file is missing.
    """
    test = dataset.test
    return Fingerprint(
        on_bad_boxes=spec.on_bad_boxes,
        train=_split_fingerprint(dataset.train),
        val=_split_fingerprint(dataset.val),
        test=None if test is None else _split_fingerprint(test),
    )


def _split_fingerprint(split: Split) -> SplitFingerprint:
    try:
        file_sizes = [(split.images_dir / name).stat().st_size for name in split.file_names]
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read: {error.strerror}") from error
    numbers = (
        split.image_ids,
        split.sizes,
        split.boxes,
        split.areas,
        split.labels,
        split.crowd,
        split.annotation_ids,
        split.offsets,
        np.array(split.category_ids, np.int64),
    )
    return SplitFingerprint(
        images=len(split),
        boxes=len(split.boxes),
        classes=split.classes,
        annotations=_digest([*(_bytes(array) for array in numbers), *(name.encode() for name in split.classes)]),
        file_names=_digest(name.encode() for name in split.file_names),
        file_sizes=_digest([np.array(file_sizes, "<i8").tobytes()]),
    )


def _bytes(array: np.ndarray) -> bytes:
    """The same bytes on machines of either byte order."""
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _digest(parts: Iterable[bytes]) -> str:
    total = hashlib.sha256()
    for part in parts:
        total.update(len(part).to_bytes(8, "little"))
        total.update(part)
    return total.hexdigest()
