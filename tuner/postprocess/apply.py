"""Detections and the confidence thresholds of an operating point: what is shown there, and how right it is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tuner.models.predictions import Detections
from tuner.postprocess.curve import Hits, Point, point
from tuner.postprocess.matching import MATCH_IOU, TruthIndex
from tuner.postprocess.operating_point import OperatingPoint


def class_thresholds(chosen: OperatingPoint, classes: Sequence[str]) -> NDArray[np.float64]:
    """(K,) float64, the confidence threshold of each class."""
    return np.array([chosen.class_confidence.get(name, chosen.confidence) for name in classes])


def shown_of(found: Detections, chosen: OperatingPoint, classes: Sequence[str]) -> Detections:
    """Those of the detections after suppression that reach the threshold of their class."""
    return found.subset(found.scores.astype(np.float64) >= class_thresholds(chosen, classes)[found.labels])


def hits_of(found: Detections, truth: TruthIndex) -> Hits:
    """Match detections to the ground truth by COCO's rule at `MATCH_IOU`."""
    return Hits.of(truth.match(found, (MATCH_IOU,)), truth)


def point_of(hits: Hits, chosen: OperatingPoint, classes: Sequence[str]) -> Point | None:
    """Precision, recall and F1 at the thresholds of an operating point; None where there is nothing to be found."""
    every = np.ones(len(hits.positives), np.bool_)
    right, wrong, _ = hits.counted(class_thresholds(chosen, classes), every)
    return point(chosen.confidence, right, wrong, int(hits.positives.sum()))
