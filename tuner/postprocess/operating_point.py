"""`Merging` and `OperatingPoint`: the post-processing that production uses, and what to expect of it."""

from __future__ import annotations

from pydantic import Field

from tuner.config.base import Frozen
from tuner.config.trial import WHOLE, NmsKind, Probability, Tiles


class Merging(Frozen):
    """How the boxes of an image come about from what the network says of it."""

    tiles: Tiles = WHOLE
    nms: NmsKind = "greedy"
    nms_iou: float = Field(
        gt=0.0, le=1.0, description="of soft-gaussian, which has no IoU threshold, sigma; of none, without meaning"
    )

    @property
    def merging(self) -> str:
        """The same in a few words."""
        if self.nms == "none":
            text = "no NMS"
        elif self.nms == "soft-gaussian":
            text = f"soft-gaussian NMS, sigma {self.nms_iou:.2f}"
        else:
            text = f"{'' if self.nms == 'greedy' else f'{self.nms} '}NMS IoU {self.nms_iou:.2f}"
        return f"{text}, tiles of {self.tiles.size} px" if self.tiles.size else text


class OperatingPoint(Merging):
    """Post-processing with the precision, recall and F1 (all classes together, IoU 0.5) expected there.

    Expected means: counted on images that did not choose the threshold, where there are enough images for that and the
    criterion's limit is reached without any part of them (`tuner.postprocess.sweep.best_operating_points`); then
    `f1_spread` says how much F1 differs between parts of the images. So the figures can lie a little beside the point
    of the precision–recall curve at `confidence`.

    Confidence thresholds apply to the scores after suppression, which some kinds of NMS lower.
    """

    confidence: Probability
    class_confidence: dict[str, Probability] = Field(
        default_factory=dict, description="thresholds of single classes, where they differ from `confidence`"
    )
    criterion: str = Field(default="f1", description="what the point was chosen by")
    precision: Probability
    recall: Probability
    f1: Probability
    f1_spread: float | None = Field(
        default=None, ge=0.0, description="standard deviation of F1 over folds of the images; none: not cross-fitted"
    )
    count_error: float | None = Field(
        default=None,
        ge=0.0,
        description="mean absolute error of the number of detections per image, as expected as the rest",
    )
