import numpy as np
import pytest
import torch
from torchvision.models.detection import anchor_utils, retinanet
from torchvision.models.detection.image_list import ImageList

from tuner.config.errors import ConfigError
from tuner.data.letterbox import Canvas
from tuner.models.catalog import FAMILIES, family

CANVAS = Canvas(320, 256)


@pytest.mark.parametrize("kind", FAMILIES.values(), ids=lambda kind: kind.name)
def test_a_default_set_has_the_levels_that_the_family_says(kind):
    anchors = kind.default_anchors(CANVAS)
    if not kind.has_anchors:
        assert anchors is None
        return
    assert len(anchors) == len(kind.strides)
    assert len(kind.level_bounds()) == len(kind.strides) - 1
    assert list(kind.level_bounds()) == sorted(kind.level_bounds())
    if kind.equal_counts:
        assert len({len(level) for level in anchors}) == 1


def test_dense_anchors_are_those_of_coco_scaled_with_the_longer_side():
    at_640 = np.array(family("dense-tiny").default_anchors(Canvas(640, 480)))
    assert at_640[0, 0].tolist() == [10, 13]
    assert at_640[2, 2].tolist() == [373, 326]
    at_320 = np.array(family("dense-tiny").default_anchors(Canvas(256, 320)))
    np.testing.assert_allclose(at_320, at_640 / 2)


_FPN = tuple((size,) for size in (32, 64, 128, 256, 512))


@pytest.mark.parametrize(
    ("name", "generator"),
    [
        ("fasterrcnn-resnet50", anchor_utils.AnchorGenerator(_FPN, ((0.5, 1.0, 2.0),) * 5)),
        (
            "fasterrcnn-mobilenet",
            anchor_utils.AnchorGenerator(((32, 64, 128, 256, 512),) * 3, ((0.5, 1.0, 2.0),) * 3),
        ),
        ("retinanet-resnet50", retinanet._default_anchorgen()),
    ],
)
def test_default_anchors_are_torchvisions_in_its_order_without_rounding(name, generator):
    for ours, theirs in zip(family(name).default_anchors(CANVAS), generator.cell_anchors, strict=True):
        half = np.array(ours) / 2
        np.testing.assert_allclose(np.concatenate([-half, half], axis=1), theirs.numpy(), atol=0.501)


@pytest.mark.parametrize(
    ("name", "generator"),
    [
        (
            "ssd300-vgg16",
            anchor_utils.DefaultBoxGenerator(
                [[2], [2, 3], [2, 3], [2, 3], [2], [2]], scales=[0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05]
            ),
        ),
        ("ssdlite320-mobilenet", anchor_utils.DefaultBoxGenerator([[2, 3]] * 6, min_ratio=0.2, max_ratio=0.95)),
    ],
)
def test_default_boxes_are_those_that_torchvision_places_on_the_canvas(name, generator):
    levels = family(name).default_anchors(CANVAS)
    features = [torch.zeros(1, 1, 1, 1)] * len(levels)
    images = ImageList(torch.zeros(1, 3, CANVAS.height, CANVAS.width), [(CANVAS.height, CANVAS.width)])
    placed = generator(images, features)[0]
    np.testing.assert_allclose(np.concatenate(levels), (placed[:, 2:] - placed[:, :2]).numpy(), rtol=1e-5)


def test_an_unknown_detector_is_answered_with_the_nearest_name():
    with pytest.raises(ConfigError) as caught:
        family("retinanet-resnet5")
    assert "retinanet-resnet5" in caught.value.message
    assert "'retinanet-resnet50'" in caught.value.hint
