"""Dividing the images of one annotation file into training and validation."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.config.errors import DataError
from tuner.data.split import Split

VAL_SHARE = 0.2
"""Share of the images that go to validation where a data set comes without a validation split."""

Videos = Sequence[str | int | None]
"""The video that each image is a frame of; None for one of its own."""


def videos_of(content: dict[str, Any]) -> Videos:
    """What a COCO file says of its images in `video_id`, as data sets of tracking have it."""
    found = (image.get("video_id") for image in content["images"])
    return [video if isinstance(video, str | int) else None for video in found]


def about_videos(videos: Videos, train: NDArray[np.int64], val: NDArray[np.int64]) -> str:
    """What a division means for the frames of videos, to follow in a sentence; empty where there are none."""
    learnt, judged = ({videos[i] for i in side.tolist()} - {None} for side in (train, val))
    if not learnt | judged:
        return ""
    if learnt & judged:
        return "; they are frames of one video (video_id), so val says little of others"
    return ", all frames of a video (video_id) on the same side"


def divide(split: Split, videos: Videos = ()) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide images so that every class has about its share of images on both sides, and no video is on both.

    The rarest class is divided first, then the next among the images left, at last the images without
    objects; at most half of all are put aside. Who goes where depends on the file names and videos alone. Where
    all images that show objects are frames of one video, it is divided nevertheless.

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
    visible = np.zeros((len(split), len(split.classes)), np.bool_)
    visible[split.image_index[~split.crowd], split.labels[~split.crowd]] = True
    shows = visible.any(axis=1)
    if shows.sum() < 2:
        raise DataError(
            f"of {len(split)} images only {split.file_names[np.flatnonzero(shows)[0]]} shows objects, "
            "but training and validation need one each",
            hint="Annotate more images, or name a file of validation images as --val.",
        )
    drawn = (int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:8]) for name in split.file_names)
    draw = np.fromiter(drawn, np.uint64)
    unit = _units(videos, len(split))
    if len(np.unique(unit[shows])) < 2:
        unit = np.arange(len(split))
    count = int(unit.max()) + 1
    holds = np.zeros((count, len(split.classes)), np.bool_)
    np.logical_or.at(holds, unit, visible)
    first = np.full(count, np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(first, unit, draw)
    aside = _put_aside(holds, np.bincount(unit), first)[unit]
    return np.flatnonzero(~aside), np.flatnonzero(aside)


def _units(videos: Videos, images: int) -> NDArray[np.int64]:
    """What each image stays together with, as a number: the frames of a video, or the image alone."""
    numbers: dict[Any, int] = {}
    keys = [(i,) if video is None else video for i, video in enumerate(videos)] or range(images)
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys])


def _put_aside(holds: NDArray[np.bool_], size: NDArray[np.int64], draw: NDArray[Any]) -> NDArray[np.bool_]:
    """Which units go to validation.

    Args:
        holds: (units, classes), which classes each shows.
        size: Images of each.
        draw: Its chance: those with the lowest are put aside first.
    """
    shows = holds.any(axis=1)
    most = int(size.sum()) // 2
    side = np.full(len(size), -1)
    every = np.ones(len(size), np.bool_)  # for those without objects
    columns = np.column_stack((holds, every))
    for column in np.argsort(columns.sum(axis=0), kind="stable").tolist():
        members = np.flatnonzero(columns[:, column])
        free = members[side[members] < 0]
        wanted = round(VAL_SHARE * int(size[members].sum()))
        found = int(size[members[side[members] == 1]].sum())
        room = most - int(size[side == 1].sum())  # classes of a few images each would together take too many
        for one in free[np.argsort(draw[free])].tolist():
            side[one] = found + size[one] / 2 < wanted and size[one] <= room
            found, room = found + size[one] * side[one], room - size[one] * side[one]
        if not found and len(free) and len(members) > 1:
            smallest = free[np.lexsort((draw[free], size[free]))[0]]
            side[smallest] = size[smallest] <= room
    # Classes of a single unit each stay in training, which may leave nothing to validate on.
    wanted = max(1, round(VAL_SHARE * int(size[shows].sum())))
    found = int(size[shows & (side == 1)].sum())
    movable = np.flatnonzero(shows & (side == 0))
    alone = (holds[movable] & (holds[side == 0].sum(axis=0) == 1)).any(axis=1)
    for one in movable[np.lexsort((draw[movable], size[movable], alone, size[movable] > most))].tolist():
        if found + size[one] / 2 < wanted or not found:
            side[one] = 1
            found += int(size[one])
    # That may be more than half together with images without objects, which go back.
    over = int(size[side == 1].sum()) - most
    empty = np.flatnonzero(~shows & (side == 1))
    for one in empty[np.argsort(draw[empty])].tolist():
        if over > 0:
            side[one] = 0
            over -= int(size[one])
    aside: NDArray[np.bool_] = side == 1
    return aside
