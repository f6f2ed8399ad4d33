"""Predictions of a whole split as flat arrays: before (`RawPredictions`) and after (`Detections`) suppression."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tuner.config.errors import DataError

_DTYPES = {"boxes": np.float32, "scores": np.float32, "labels": np.int64, "offsets": np.int64}


@dataclass(frozen=True, eq=False)
class _FlatBoxes:
    """Boxes of N images in one array, grouped by image, by descending score within an image.

    Attributes:
        boxes: (P, 4) float32, xyxy in pixels of the original image; a detector's are clipped to it, a file's are not.
        scores: (P,) float32 in 0 … 1; float64 where they come from a file of results, whose digits they keep.
        labels: (P,) int64, class indices 0 … K-1.
        offsets: (N + 1,) int64; the boxes of image i are `offsets[i]:offsets[i + 1]`.
        stated: (P, 4) float64, COCO's xywh as a file of results states it, which corners would not give back to the
            last digit; None where the boxes are a detector's, or were moved.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32] | NDArray[np.float64]
    labels: NDArray[np.int64]
    offsets: NDArray[np.int64]
    stated: NDArray[np.float64] | None = None

    def xywh(self, rows: NDArray[np.int64] | slice) -> NDArray[np.float64]:
        """Some boxes as COCO has them, float64, as metrics need them; only to be read."""
        if self.stated is not None:
            return self.stated[rows]
        boxes = self.boxes[rows].astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        return boxes

    @property
    def image_index(self) -> NDArray[np.int64]:
        """(P,) int64, the index of the image that each box lies in."""
        return np.repeat(np.arange(len(self.offsets) - 1, dtype=np.int64), np.diff(self.offsets))

    def of_image(self, index: int) -> Self:
        """The boxes of one image."""
        start, end = self.offsets[index : index + 2].tolist()
        here = slice(start, end)
        stated = None if self.stated is None else self.stated[here]
        return type(self)(self.boxes[here], self.scores[here], self.labels[here], np.array([0, end - start]), stated)

    def subset(self, kept: NDArray[np.bool_]) -> Self:
        """Those boxes for which the (P,) mask is true."""
        before = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(kept, dtype=np.int64)])
        stated = None if self.stated is None else self.stated[kept]
        return type(self)(self.boxes[kept], self.scores[kept], self.labels[kept], before[self.offsets], stated)

    def check(self, images: int, classes: int) -> None:
        """Make sure that these are finite predictions for a split of `images` images and `classes` classes.

        Raises:
            DataError: Another number of images, a label out of range, or NaN or infinity in boxes or scores.
        """
        if len(self.offsets) != images + 1:
            raise DataError(f"predictions for {len(self.offsets) - 1} images, but the split has {images}")
        bad = (self.labels < 0) | (self.labels >= classes)
        if bad.any():
            raise DataError(
                f"{bad.sum()} of {len(bad)} predictions have a label outside 0 … {classes - 1}, "
                f"first {self.labels[bad][0]} in image number {self.image_index[bad][0]}"
            )
        bad = ~(np.isfinite(self.boxes).all(axis=1) & np.isfinite(self.scores))
        if bad.any():
            raise DataError(
                f"{bad.sum()} of {len(bad)} predictions have NaN or infinite coordinates or scores, "
                f"first in image number {self.image_index[bad][0]}",
                hint="Check that the training did not diverge and that its precision suits the model.",
            )

    def save(self, path: Path) -> None:
        """Write an .npz file without pickles; it appears under its name only once it is complete."""
        partial = path.with_name(path.name + ".partial")
        try:
            with partial.open("wb") as file:
                np.savez(file, boxes=self.boxes, scores=self.scores, labels=self.labels, offsets=self.offsets)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            DataError: The file is missing, broken or holds something else.
        """
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in _DTYPES}
        except FileNotFoundError:
            raise DataError(f"{path}: no such file of predictions") from None
        except (ValueError, KeyError, EOFError, OSError, AttributeError, TypeError, zipfile.BadZipFile) as error:
            raise DataError(f"{path}: not a file of predictions ({error})") from error
        count = len(arrays["scores"])
        shapes = {"boxes": (count, 4), "scores": (count,), "labels": (count,), "offsets": (len(arrays["offsets"]),)}
        for name, shape in shapes.items():
            if arrays[name].shape != shape or arrays[name].dtype != _DTYPES[name]:
                raise DataError(
                    f"{path}: {name} is {arrays[name].dtype} {arrays[name].shape}, "
                    f"expected {np.dtype(_DTYPES[name])} {shape}"
                )
        offsets = arrays["offsets"]
        if not len(offsets) or offsets[0] != 0 or offsets[-1] != count or (np.diff(offsets) < 0).any():
            raise DataError(f"{path}: offsets do not divide {count} predictions among images")
        return cls(**arrays)


class RawPredictions(_FlatBoxes):
    """What the detector says before non-maximum suppression and before any confidence threshold."""


class Detections(_FlatBoxes):
    """What is left after non-maximum suppression."""
