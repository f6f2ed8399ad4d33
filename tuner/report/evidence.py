"""What a detector found on a split, as pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tuner.data.split import Split
from tuner.models.predictions import Detections
from tuner.postprocess.apply import class_thresholds, hits_of, shown_of
from tuner.postprocess.curve import Hits
from tuner.postprocess.matching import TruthIndex
from tuner.postprocess.operating_point import OperatingPoint
from tuner.report.curves import draw_precision_recall
from tuner.report.pictures import Image, choose_images, side_by_side, write_picture


def draw_evidence(detections: Detections, chosen: OperatingPoint, split: Split, folder: Path) -> None:
    """Draw `examples.jpg` and `precision-recall.png` into a folder, which is made where it does not exist.

    Args:
        detections: After NMS, with no confidence threshold.
        chosen: The operating point.
        split: The ground truth.
        folder: Where to draw.
    """
    hits = hits_of(detections, TruthIndex(split))
    folder.mkdir(parents=True, exist_ok=True)
    write_picture(example_picture(hits, detections, chosen, split), folder, "examples")
    draw_precision_recall(hits.curve(), chosen, folder / "precision-recall.png")


def example_picture(hits: Hits, detections: Detections, chosen: OperatingPoint, split: Split) -> Image:
    """The worst, the median and the best image by F1 at an operating point: ground truth left, predictions right."""
    counted = hits.reaching(class_thresholds(chosen, split.classes))
    images = choose_images(
        hits=np.bincount(hits.image[hits.right & counted], minlength=len(split)),
        found=np.bincount(hits.image[counted], minlength=len(split)),
        present=hits.positives.sum(axis=1, dtype=np.int64),
    )
    return side_by_side(split, shown_of(detections, chosen, split.classes), images)
