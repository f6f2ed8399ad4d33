"""The splits of a data set, read from COCO annotation files and checked against each other and the images."""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from tuner.config.errors import DataError, listed
from tuner.config.study import DataSpec
from tuner.data.annotations import read_annotations
from tuner.data.bad_boxes import BoxReport
from tuner.data.doubled import FEW, doubled_notes
from tuner.data.image_checks import check_files_exist, check_sizes, header_sizes
from tuner.data.split import Split

SplitName: TypeAlias = Literal["train", "val", "test"]


@dataclass(frozen=True, eq=False)
class Dataset:
    """All splits of a data set, with the same classes.

    Attributes:
        train: What is trained on.
        val: What trials are judged by.
        test: What the final config is judged by, once; None where the spec names none.
        reports: What was found wrong with the boxes, by split name.
        warnings: Findings that stop nothing, such as an image in two splits, each a sentence.
    """

    train: Split
    val: Split
    test: Split | None
    reports: dict[str, BoxReport]
    warnings: tuple[str, ...]

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits that there are: train, val and perhaps test."""
        return (self.train, self.val) if self.test is None else (self.train, self.val, self.test)


def load_dataset(spec: DataSpec) -> Dataset:
    """Read and check all splits, down to the headers of the image files.

    Raises:
        DataError: As `load_split`; the splits' categories differ; a file's size differs from the annotated one.
    """
    names: tuple[SplitName, ...] = ("train", "val") if spec.test is None else ("train", "val", "test")
    loaded = {name: load_split(spec, name) for name in names}
    splits = {name: split for name, (split, _) in loaded.items()}
    train = splits["train"]
    for split in splits.values():
        _check_same_classes(train, split, spec.path(spec.train), spec.path(getattr(spec, split.name)))
    for split in splits.values():
        check_sizes(split.paths, split.sizes, header_sizes(split.paths))
    reports: dict[str, BoxReport] = {name: report for name, (_, report) in loaded.items()}
    return Dataset(
        train=train,
        val=splits["val"],
        test=splits.get("test"),
        reports=reports,
        warnings=(
            *_overlaps(list(splits.values())),
            *_from_polygons(reports.values()),
            *_rotated(reports.values()),
            *doubled_notes(split for split in splits.values() if reports[split.name].doubled),
            *_fractions(splits.values()),
            *_without_areas(splits.values()),
            *_one_sided(train, splits["val"]),
        ),
    )


def load_split(spec: DataSpec, which: SplitName, *, needs_boxes: bool = True) -> tuple[Split, BoxReport]:
    """Read one split and check that its image files exist (their contents are checked by `load_dataset`).

    Args:
        spec: The data set.
        which: Split of it.
        needs_boxes: See `read_annotations`.

    Raises:
        DataError: As `read_annotations`; the spec has no such split; the folder or image files are missing.
    """
    relative: Path | None = getattr(spec, which)
    if relative is None:
        raise DataError(f"the data set has no {which} split", hint=f"Name its annotation file as `data.{which}`.")
    images_dir = spec.path(spec.images)
    if not images_dir.is_dir():
        raise DataError(
            f"the image folder {images_dir} does not exist",
            hint="Check `data.images` and `data.root`, --images, or --data of `tuner worker` and `tuner confirm`.",
        )
    split, report = read_annotations(
        spec.path(relative), images_dir, name=which, on_bad_boxes=spec.on_bad_boxes, needs_boxes=needs_boxes
    )
    check_files_exist(images_dir, split.file_names, spec.path(relative))
    return split, report


def _check_same_classes(first: Split, other: Split, first_path: Path, other_path: Path) -> None:
    ours = dict(zip(first.category_ids, first.classes, strict=True))
    theirs = dict(zip(other.category_ids, other.classes, strict=True))
    if ours == theirs:
        return
    differences = []
    for category in sorted(ours.keys() | theirs.keys()):
        here, there = ours.get(category), theirs.get(category)
        if here != there:
            words = [
                f"{name!r} in {split.name}" if name else f"missing in {split.name}"
                for name, split in ((here, first), (there, other))
            ]
            differences.append(f"id {category} is {' but '.join(words)}")
    raise DataError(
        f"the categories of {other_path} differ from those of {first_path}: {listed(differences)}",
        hint="Give all annotation files the same categories with the same ids, also where a split has none of a class.",
    )


def _from_polygons(reports: Iterable[BoxReport]) -> list[str]:
    """Sentences on boxes that the annotation files do not have."""
    return [
        f"{report.from_polygons} of {report.boxes} annotations of {report.split} have polygons and no bbox: the boxes "
        "around their polygons are taken"
        for report in reports
        if report.from_polygons
    ]


def _rotated(reports: Iterable[BoxReport]) -> list[str]:
    """Sentences on boxes that are not around their objects, since the tool wrote them as they were before a turn."""
    return [
        f"{report.rotated} of {report.boxes} boxes of {report.split} are rotated (`attributes.rotation`, as CVAT has "
        "it), and their `bbox` is what they were before, which is not around the object: write the upright box around "
        "each turned one, or draw them as polygons and leave `bbox` out"
        for report in reports
        if report.rotated
    ]


def _fractions(splits: Iterable[Split]) -> list[str]:
    """Sentences on boxes that seem to be fractions among others in pixels."""
    warnings = []
    for split in splits:
        tiny = (split.boxes.max(axis=1) <= 1) & (split.sizes.min(axis=1) > 1)[split.image_index]
        if tiny.sum() > FEW * len(tiny):
            warnings.append(
                f"{tiny.sum()} of {len(tiny)} boxes of {split.name} lie within one pixel of their image's corner, as "
                "fractions of its size do: COCO's boxes are in pixels"
            )
    return warnings


def _without_areas(splits: Iterable[Split]) -> list[str]:
    """Sentences on objects whose `area` is 0, as tools write it that do not compute it."""
    warnings = []
    for split in splits:
        areas = split.areas[~split.crowd]
        empty = int((areas == 0).sum())
        if empty > FEW * len(areas):
            warnings.append(
                f"{empty} of {len(areas)} objects of {split.name} have `area` 0, and so count as small in metrics by "
                "size: take `area` out of the annotation file, and width times height is used"
            )
    return warnings


def _one_sided(train: Split, val: Split) -> list[str]:
    """Sentences on classes that are looked for and never shown, and on those that are shown and never looked for."""
    taught, asked = (np.bincount(s.labels[~s.crowd], minlength=len(s.classes)) for s in (train, val))
    warnings = []
    for there, lacking, here, effect in (
        (asked, taught, "val and none in train", "nothing can learn {}, and mAP counts {} as 0"),
        (taught, asked, "train and none in val", "mAP leaves {} out, so that no trial is judged by {}"),
    ):
        alone = np.flatnonzero((there > 0) & (lacking == 0)).tolist()
        if alone:
            have, them = ("class has", "it") if len(alone) == 1 else ("classes have", "them")
            names = listed(f"{train.classes[k]!r} ({there[k]})" for k in alone)
            warnings.append(f"{len(alone)} {have} boxes in {here}: {names}: {effect.format(them, them)}")
    return warnings


def _overlaps(splits: list[Split]) -> tuple[str, ...]:
    """Sentences on images that are listed twice, in one split or in two, be it as a/../b.jpg or through a link."""
    warnings = []
    real = functools.cache(os.path.realpath)
    counts = [Counter(f"{real(path.parent)}/{path.name}" for path in split.paths) for split in splits]
    for i, split in enumerate(splits):
        doubled = sorted(name for name, count in counts[i].items() if count > 1)
        if doubled:
            warnings.append(
                f"{split.name} lists {len(doubled)} images more than once: {listed(doubled)}; what one entry of an "
                "image annotates and another does not is background there: merge the entries of each image into one"
            )
        for other, others in zip(splits[i + 1 :], counts[i + 1 :], strict=True):
            both = sorted(counts[i].keys() & others.keys())
            if both:
                effect = f"which flatters the results: {listed(both)}"
                if len(both) == len(others):
                    effect = f"and {other.name} has no others: it says nothing of new images, give it some of its own"
                warnings.append(f"{len(both)} images are in {split.name} and in {other.name}, {effect}")
    return tuple(warnings)
