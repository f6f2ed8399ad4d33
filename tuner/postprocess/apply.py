"""Applying the confidence thresholds of an operating point to suppressed detections."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tuner.models.predictions import Detections
from tuner.postprocess.operating_point import OperatingPoint


def class_thresholds(point: OperatingPoint, classes: Sequence[str]) -> NDArray[np.float64]:
    """(K,) float64, the confidence threshold of each class."""
    return np.array([point.class_confidence.get(name, point.confidence) for name in classes])


def is_shown(detections: Detections, point: OperatingPoint, classes: Sequence[str]) -> NDArray[np.bool_]:
    """(P,) bool, whether a detection reaches the threshold of its class."""
    return detections.scores.astype(np.float64) >= class_thresholds(point, classes)[detections.labels]
