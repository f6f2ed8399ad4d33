"""Detections against the ground truth at an operating point: what was found, and how precisely."""

from __future__ import annotations

from collections.abc import Sequence

from tuner.models.predictions import Detections
from tuner.postprocess.apply import class_thresholds
from tuner.postprocess.curve import Hits, Point, point
from tuner.postprocess.matching import MATCH_IOU, TruthIndex
from tuner.postprocess.operating_point import OperatingPoint


def hits_of(detections: Detections, truth: TruthIndex) -> Hits:
    """Match detections to the ground truth by COCO's rule at `MATCH_IOU`."""
    return Hits.of(truth.match(detections, (MATCH_IOU,)), truth)


def point_of(hits: Hits, chosen: OperatingPoint, classes: Sequence[str]) -> Point | None:
    """Precision, recall and F1 at the thresholds of an operating point; None where there is nothing to be found."""
    shown = hits.reaching(class_thresholds(chosen, classes))
    right = int((hits.right & shown).sum())
    return point(chosen.confidence, right, int(shown.sum()) - right, int(hits.positives.sum()))
