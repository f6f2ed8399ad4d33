"""`OperatingPoint`: the post-processing that production uses, and what to expect of it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tuner.config.base import Frozen
from tuner.config.trial import Probability


class OperatingPoint(Frozen):
    """Post-processing with the precision, recall and F1 (all classes together, IoU 0.5) expected there.

    Expected means: counted on images that did not choose the threshold, where there are enough images for that
    (`tuner.postprocess.sweep.best_operating_point`); then `f1_spread` says how much F1 differs between parts of the
    images. So the figures can lie a little beside the point of the precision–recall curve at `confidence`.
    """

    nms: Literal["greedy"] = "greedy"
    nms_iou: float = Field(gt=0.0, le=1.0)
    confidence: Probability
    class_confidence: dict[str, Probability] = Field(
        default_factory=dict, description="thresholds of single classes, where they differ from `confidence`"
    )
    criterion: str = Field("f1", description="what the point was chosen by")
    precision: Probability
    recall: Probability
    f1: Probability
    f1_spread: float | None = Field(
        None, ge=0.0, description="standard deviation of F1 over folds of the images; none: not cross-fitted"
    )
