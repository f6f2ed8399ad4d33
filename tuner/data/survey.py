"""`Survey`: what a data set looks like, in the numbers that a study is laid out by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tuner.data.coco import Dataset
from tuner.data.split import Split


@dataclass(frozen=True)
class SplitSurvey:
    """One split in numbers.

    Attributes:
        name: "train", "val" or "test".
        images: Number of images.
        empty: Images without objects.
        boxes: Number of boxes, crowd regions included.
        crowd: Crowd regions.
        class_boxes: Boxes of each class, crowd regions left out, in the order of `classes`.
    """

    name: str
    images: int
    empty: int
    boxes: int
    crowd: int
    class_boxes: tuple[int, ...]


@dataclass(frozen=True)
class Survey:
    """A data set in numbers; sizes are those of the training split.

    Attributes:
        splits: One for each split.
        classes: Names of the classes.
        width: Smallest, median and largest image width in pixels.
        height: Likewise.
        shapes: Number of different image sizes.
        longer_side: Of the image that an object lies in, in pixels: the median over the objects. Over the images,
            thumbnails that show little would speak for the few that hold most objects.
        small_object: Size (square root of the area) that a tenth of the objects do not reach, as a fraction of
            the image's longer side.
        median_object: Median size of the objects, likewise.
    """

    splits: tuple[SplitSurvey, ...]
    classes: tuple[str, ...]
    width: tuple[int, int, int]
    height: tuple[int, int, int]
    shapes: int
    longer_side: int
    small_object: float
    median_object: float

    @property
    def train(self) -> SplitSurvey:
        """The training split."""
        return self.splits[0]

    @property
    def imbalance(self) -> float:
        """Boxes of the most frequent class for each one of the rarest that has any, in training."""
        counts = [count for count in self.train.class_boxes if count]
        return max(counts) / min(counts)


def survey(dataset: Dataset) -> Survey:
    """Look at a data set."""
    train = dataset.train
    objects = train.boxes[~train.crowd]
    around = train.sizes.max(axis=1)[train.image_index[~train.crowd]]
    relative = np.sqrt(objects[:, 2] * objects[:, 3]) / around
    small, median = np.percentile(relative, [10, 50]).tolist()
    return Survey(
        splits=tuple(_survey_split(split) for split in dataset.splits),
        classes=train.classes,
        width=_spread(train, 0),
        height=_spread(train, 1),
        shapes=len(np.unique(train.sizes, axis=0)),
        longer_side=int(np.median(around)),
        small_object=small,
        median_object=median,
    )


def _survey_split(split: Split) -> SplitSurvey:
    return SplitSurvey(
        name=split.name,
        images=len(split),
        empty=int((np.diff(split.offsets) == 0).sum()),
        boxes=len(split.boxes),
        crowd=int(split.crowd.sum()),
        class_boxes=tuple(np.bincount(split.labels[~split.crowd], minlength=len(split.classes)).tolist()),
    )


def _spread(split: Split, axis: int) -> tuple[int, int, int]:
    sides = split.sizes[:, axis]
    return int(sides.min()), int(np.median(sides)), int(sides.max())
