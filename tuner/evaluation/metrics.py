"""`Metrics`: how good a detector is on a split."""

from __future__ import annotations

from pydantic import Field

from tuner.config.base import Frozen
from tuner.evaluation.cost import ImageCost
from tuner.postprocess.operating_point import OperatingPoint


class Metrics(Frozen):
    """COCO's twelve numbers, AP per class, the operating point, and what a study asked for beyond them.

    None means undefined (no such ground truth, or not measured), where COCO says -1.
    """

    map: float | None = Field(description="AP averaged over IoU 0.50:0.95 and classes")
    map50: float | None = None
    map75: float | None = None
    map_small: float | None = Field(default=None, description="objects of less than 32 x 32 original pixels")
    map_medium: float | None = None
    map_large: float | None = Field(default=None, description="objects of more than 96 x 96 original pixels")
    ar1: float | None = Field(default=None, description="average recall with one detection per image")
    ar10: float | None = None
    ar100: float | None = None
    ar_small: float | None = None
    ar_medium: float | None = None
    ar_large: float | None = None
    class_map: dict[str, float | None] = Field(default_factory=dict, description="AP 0.50:0.95 of each class")
    operating_point: OperatingPoint | None = None
    count_mae: float | None = Field(
        default=None, description="mean absolute error of the number of objects on an image, at the operating point"
    )
    count_bias: float | None = Field(
        default=None, description="mean error of that number over all images; above 0: too many"
    )
    criteria: dict[str, float | None] = Field(
        default_factory=dict, description="such as recall@precision=0.9; 0 where the limit is never reached"
    )
    cost: ImageCost | None = Field(default=None, description="what an image costs; none: not measured")
