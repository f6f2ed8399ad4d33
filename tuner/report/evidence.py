"""Detections of a split against its ground truth: counts at an operating point, and pictures of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tuner.data.split import Split
from tuner.models.predictions import Detections
from tuner.postprocess.apply import class_thresholds, is_shown, select
from tuner.postprocess.curve import Hits, Point, point
from tuner.postprocess.matching import TruthIndex
from tuner.postprocess.operating_point import OperatingPoint
from tuner.report.pictures import Image, choose_images, side_by_side


def hits_of(detections: Detections, truth: TruthIndex) -> Hits:
    """Match detections to the ground truth by COCO's rule at IoU 0.5."""
    return Hits.of(truth.match(detections, [0.5]), truth)


def point_of(hits: Hits, chosen: OperatingPoint, classes: Sequence[str]) -> Point | None:
    """Precision, recall and F1 at the thresholds of an operating point; None where there is nothing to be found."""
    shown = hits.scores.astype(np.float64) >= class_thresholds(chosen, classes)[hits.labels]
    right = int((hits.right & shown).sum())
    return point(chosen.confidence, right, int(shown.sum()) - right, int(hits.positives.sum()))


def example_picture(hits: Hits, detections: Detections, chosen: OperatingPoint, split: Split) -> Image:
    """The worst, the median and the best image by F1 at an operating point: ground truth left, predictions right."""
    counted = hits.scores.astype(np.float64) >= class_thresholds(chosen, split.classes)[hits.labels]
    images = choose_images(
        hits=np.bincount(hits.image[hits.right & counted], minlength=len(split)),
        found=np.bincount(hits.image[counted], minlength=len(split)),
        present=hits.positives.sum(axis=1, dtype=np.int64),
    )
    return side_by_side(split, select(detections, is_shown(detections, chosen, split.classes)), images)
