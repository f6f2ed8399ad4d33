"""`Split`: one annotated split of a data set as flat arrays, the form in which every stage sees it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Split:
    """Images and ground truth of one split, in the order of the annotation file.

    Attributes:
        name: "train", "val", "test" or the name of the annotation file.
        images_dir: Folder that `file_names` are relative to.
        file_names: One for each image, N in all.
        image_ids: (N,) int64, ids of the annotation file.
        sizes: (N, 2) int32, (width, height) in pixels, after EXIF rotation.
        boxes: (M, 4) float64, COCO xywh in original pixels, exactly as in the file, grouped by image.
        areas: (M,) float64, COCO's `area` (that of the mask, where there is one).
        labels: (M,) int64, indices into `classes`, 0 … K-1. Never category ids.
        crowd: (M,) bool, COCO's `iscrowd`: ignored in training, counted as COCO says in evaluation.
        annotation_ids: (M,) int64.
        offsets: (N + 1,) int64; the boxes of image i are `offsets[i]:offsets[i + 1]`.
        classes: K class names, in the order of ascending category id.
        category_ids: K category ids of the file, ascending, gaps allowed.
    """

    name: str
    images_dir: Path
    file_names: tuple[str, ...]
    image_ids: NDArray[np.int64]
    sizes: NDArray[np.int32]
    boxes: NDArray[np.float64]
    areas: NDArray[np.float64]
    labels: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    annotation_ids: NDArray[np.int64]
    offsets: NDArray[np.int64]
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.file_names)

    @property
    def paths(self) -> list[Path]:
        """The image files, N in all."""
        return [self.images_dir / name for name in self.file_names]

    @property
    def corners(self) -> NDArray[np.float64]:
        """(M, 4) float64, the boxes as xyxy in original pixels."""
        return np.concatenate([self.boxes[:, :2], self.boxes[:, :2] + self.boxes[:, 2:]], axis=1)

    @property
    def image_index(self) -> NDArray[np.int64]:
        """(M,) int64, the index of the image that each box lies in."""
        return np.repeat(np.arange(len(self), dtype=np.int64), np.diff(self.offsets))
