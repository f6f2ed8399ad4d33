"""How well objects are counted: detections of each image against its true number of objects."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tuner.config.base import Frozen
from tuner.postprocess.curve import Hits


class CountErrors(Frozen):
    """Detections minus boxes, of each image; crowds, and detections on crowds (IoU 0.5), are not counted.

    None means that there are no images. Wrong detections make up for missed boxes here: a perfect count is no proof of
    perfect detection.
    """

    mae: float | None
    """Mean absolute error over the images, all classes together."""
    bias: float | None
    """Mean error: positive where too many are counted."""
    class_mae: dict[str, float | None]
    class_bias: dict[str, float | None]
    negative_images: int
    """Images without objects."""
    negatives_with_detections: int
    """Those of them on which something is detected."""
    false_positives_on_negatives: int


def count_errors(hits: Hits, shown: NDArray[np.bool_], classes: tuple[str, ...]) -> CountErrors:
    """Compare counts.

    Args:
        hits: Detections matched at IoU 0.5.
        shown: (D,) bool, which of them reach the thresholds of the operating point.
        classes: Names of the classes.
    """
    images = len(hits.positives)
    counts = np.zeros((images, len(classes)), dtype=np.int64)
    np.add.at(counts, (hits.image[shown], hits.labels[shown]), 1)
    true = hits.positives.astype(np.int64)
    total = (counts - true).sum(axis=1)
    each = counts - true
    negative = true.sum(axis=1) == 0
    wrong = counts[negative].sum(axis=1)

    def mean(values: NDArray[np.int64]) -> float | None:
        return float(values.mean()) if images else None

    return CountErrors(
        mae=mean(np.abs(total)),
        bias=mean(total),
        class_mae={name: mean(np.abs(each[:, k])) for k, name in enumerate(classes)},
        class_bias={name: mean(each[:, k]) for k, name in enumerate(classes)},
        negative_images=int(negative.sum()),
        negatives_with_detections=int((wrong > 0).sum()),
        false_positives_on_negatives=int(wrong.sum()),
    )
