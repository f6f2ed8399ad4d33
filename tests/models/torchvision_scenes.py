"""Two small images and torchvision's detectors for them."""

import numpy as np
import torch

from tuner.config.trial import TrialConfig
from tuner.data.letterbox import Canvas
from tuner.models.catalog import FAMILIES
from tuner.models.torchvision_build import build_torchvision

SIZE = 64
CANVAS = Canvas(SIZE, SIZE)
CLASSES = 2
NAMES = [name for name in FAMILIES if not name.startswith("dense")]
# Two images, two objects each: red squares are class 0, blue ones class 1.
BOXES = torch.tensor([[[4, 4, 30, 30.0], [34, 32, 60, 60]], [[32, 2, 60, 30], [4, 34, 28, 60]]])
LABELS = torch.tensor([[0, 1], [1, 0]])


def scenes():
    """(2, 3, SIZE, SIZE) uint8 images of `BOXES`."""
    rng = np.random.default_rng(0)
    images = rng.integers(60, 80, (2, SIZE, SIZE, 3), dtype=np.uint8)
    for image, boxes, labels in zip(images, BOXES.int().tolist(), LABELS.tolist(), strict=True):
        for (x0, y0, x1, y1), label in zip(boxes, labels, strict=True):
            image[y0:y1, x0:x1] = (40, 40, 220) if label else (220, 40, 40)
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def build(name, classes=CLASSES, canvas=CANVAS, **changes):
    """A detector of a family with its default anchors."""
    torch.manual_seed(0)
    anchors = FAMILIES[name].default_anchors(canvas)
    config = TrialConfig(model=name, image_size=max(canvas), anchor_sizes=anchors)
    detector = build_torchvision(config.model_copy(update=changes), classes)
    if name.startswith("fasterrcnn"):  # fewer regions: the second stage is what costs on a CPU
        detector.network.roi_heads.fg_bg_sampler.batch_size_per_image = 24
        detector.network.rpn._post_nms_top_n = {"training": 48, "testing": 48}
    return detector
