"""The confusion matrix of a detector, with background."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tuner.data.split import Split
from tuner.evaluation.pairing import assign, paired_images
from tuner.models.predictions import Detections
from tuner.postprocess.matching import MATCH_IOU


def confusion_matrix(split: Split, shown: Detections) -> NDArray[np.int64]:
    """Count which class is taken for which.

    Detections first find boxes of their own class by COCO's rule at `MATCH_IOU`, so that the diagonal holds the true
    positives. Those that are left then take, by descending score, the box of highest IoU that is left, whatever its
    class. Detections on crowds are left out.

    Args:
        split: The ground truth.
        shown: What production would show, after thresholds.

    Returns:
        (K + 1, K + 1) int64, rows the true class, columns the detected one; the last row is background that was
        taken for an object, the last column objects that were missed.
    """
    background = len(split.classes)
    matrix = np.zeros((background + 1, background + 1), dtype=np.int64)
    for image in paired_images(split, shown):
        true, found = split.labels[image.boxes], shown.labels[image.detections]
        free = np.ones(len(true), dtype=np.bool_)
        free[image.match[image.match >= 0]] = False
        rest = (image.match < 0) & ~image.ignored
        match = image.match.copy()
        match[rest] = assign(image.iou[rest], MATCH_IOU, free)
        hit = match >= 0
        np.add.at(matrix, (true[match[hit]], found[hit]), 1)
        phantoms = found[~hit & ~image.ignored]
        matrix[background, :-1] += np.bincount(phantoms, minlength=background)
        missed = np.setdiff1d(np.arange(len(true)), match[hit])
        matrix[:-1, background] += np.bincount(true[missed], minlength=background)
    return matrix
