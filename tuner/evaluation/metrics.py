"""`Metrics`: how good a detector is on a split."""

from __future__ import annotations

from pydantic import Field

from tuner.config.base import Frozen
from tuner.postprocess.operating_point import OperatingPoint


class Metrics(Frozen):
    """COCO's twelve numbers, AP per class and the operating point.

    None means undefined (no such ground truth), where COCO says -1.
    """

    map: float | None = Field(description="AP averaged over IoU 0.50:0.95 and classes")
    map50: float | None
    map75: float | None
    map_small: float | None = Field(description="objects of less than 32 x 32 original pixels")
    map_medium: float | None
    map_large: float | None = Field(description="objects of more than 96 x 96 original pixels")
    ar1: float | None = Field(description="average recall with one detection per image")
    ar10: float | None
    ar100: float | None
    ar_small: float | None
    ar_medium: float | None
    ar_large: float | None
    class_map: dict[str, float | None] = Field(description="AP 0.50:0.95 of each class")
    operating_point: OperatingPoint | None = None
