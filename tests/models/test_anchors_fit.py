from pathlib import Path

import numpy as np
import pytest

from tuner.data.letterbox import Canvas
from tuner.data.split import Split
from tuner.models.anchor_fit import fit_anchors


@pytest.fixture
def split():
    """Three boxes and a crowd region in one image of 640 x 480, which a canvas of 320 x 256 halves."""
    boxes = np.array([[0, 0, 20, 20], [0, 0, 40, 40], [0, 0, 200, 100], [0, 0, 600, 400]], float)
    return Split(
        name="train",
        images_dir=Path(),
        file_names=("a.png",),
        image_ids=np.array([1]),
        sizes=np.array([[640, 480]], np.int32),
        boxes=boxes,
        areas=boxes[:, 2:].prod(axis=1),
        labels=np.array([0, 0, 1, 1]),
        crowd=np.array([False, False, False, True]),
        annotation_ids=np.arange(4),
        offsets=np.array([0, 4]),
        classes=("cell", "worm", "ghost"),
        category_ids=(1, 2, 3),
    )


def test_fit_is_what_the_definitions_say(split):
    fit = fit_anchors((((10.0, 10.0),), ((25.0, 50.0),)), split, Canvas(320, 256))
    # The network sees 10 x 10, 20 x 20 and 100 x 50. Best IoU: 1; 400 / 1250 with the second anchor; 1250 / 5000.
    best = [1.0, 400 / 1250, 1250 / 5000]
    assert fit.all.boxes == 3
    assert fit.all.mean_iou == pytest.approx(np.mean(best))
    assert fit.all.recall_iou == pytest.approx(1 / 3)
    # 100 x 50 against 25 x 50: the worse side ratio is 1/4, which YOLOv5 does not match.
    assert fit.all.recall_ratio == pytest.approx(2 / 3)
    assert {name: part.boxes for name, part in fit.by_size.items()} == {"small": 1, "medium": 1, "large": 1}
    assert fit.by_size["medium"].mean_iou == pytest.approx(best[1])
    assert {name: part.boxes for name, part in fit.by_class.items()} == {"cell": 2, "worm": 1, "ghost": 0}
    assert fit.by_class["ghost"].mean_iou is None
    assert fit.by_class["worm"].recall_iou == 0.0
