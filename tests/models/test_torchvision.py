import copy

import pytest
import torch
from torch import nn
from torchvision.models.detection import ssd300_vgg16, ssdlite320_mobilenet_v3_large
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import batched_nms

from tests.models.torchvision_scenes import BOXES, LABELS, NAMES, SIZE, build, scenes
from tuner.config.errors import ConfigError
from tuner.config.trial import TrialConfig
from tuner.data.batch import PADDING
from tuner.data.letterbox import Canvas
from tuner.models.build import build_detector
from tuner.models.catalog import FAMILIES
from tuner.models.detector import Detector
from tuner.models.torchvision_anchors import ExplicitAnchors, ExplicitDefaultBoxes


def follow_last_batch(detector):
    """Let batch norms take the last batch's statistics: in so few steps a slow average would lag behind."""
    for module in detector.train().modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0


@pytest.mark.parametrize("name", NAMES)
def test_candidates_after_nms_are_torchvisions_own_detections(name):
    detector = build(name)
    network = detector.network
    images = torch.randint(0, 256, (2, 3, 128, 96), dtype=torch.uint8)
    follow_last_batch(detector)
    with torch.no_grad():
        detector.losses(images, BOXES, LABELS)
        head = network.roi_heads.box_predictor if name.startswith("fasterrcnn") else network.head
        for parameter in head.parameters():  # as built, scores are nearly the same, or SSD's all 1
            factor = 0.1 if name.startswith("ssd") else 1.0
            parameter.mul_(factor).add_(torch.randn_like(parameter) * 0.003)
    # The network's own post-processing, with limits that keep the best candidates of both whole.
    post = network.roi_heads if name.startswith("fasterrcnn") else network
    post.score_thresh, post.nms_thresh, post.detections_per_img = 1e-3, 0.5, 20
    if hasattr(network, "topk_candidates"):
        network.topk_candidates = 10_000
    detector.eval()
    with torch.inference_mode():
        candidates = detector.candidates(images)
        expected = network(images)
    for boxes, scores, labels, theirs in zip(*candidates, expected, strict=True):
        kept = batched_nms(boxes, scores, labels, 0.5)[:20]
        kept = kept[scores[kept] > 0]  # not the padded rows
        assert len(kept) > 1
        torch.testing.assert_close(scores[kept], theirs["scores"])
        # Regions that see the same cells of a coarse level have equal scores; which of them is kept is chance.
        same = (boxes[kept] - theirs["boxes"]).abs().amax(dim=1) < 1e-2
        same &= labels[kept] + detector.first_label == theirs["labels"]
        assert same.float().mean() >= 0.9


@pytest.mark.parametrize("name", NAMES)
def test_candidates_are_padded_sorted_and_on_the_canvas(name):
    images = torch.randint(0, 256, (2, 3, 32, SIZE), dtype=torch.uint8)
    with torch.inference_mode():
        boxes, scores, labels = build(name).eval().candidates(images)
    assert boxes.shape == (*scores.shape, 4)
    assert scores.shape == labels.shape
    assert scores.shape[1] <= Detector.max_candidates
    assert (boxes.dtype, scores.dtype, labels.dtype) == (torch.float32, torch.float32, torch.int64)
    assert (scores.diff(dim=1) <= 0).all()
    assert set(labels.unique().tolist()) <= {0, 1}
    assert boxes.min() >= 0
    assert boxes[..., 0::2].max() <= SIZE
    assert boxes[..., 1::2].max() <= 32


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("retinanet-resnet50", "backbone"),
        ("fcos-resnet50", "backbone"),
        ("ssdlite320-mobilenet", "backbone"),
        ("fasterrcnn-mobilenet", "backbone"),
        ("fasterrcnn-mobilenet", "rpn.head.cls_logits"),
        ("fasterrcnn-mobilenet", "rpn.head.bbox_pred"),
        ("fasterrcnn-mobilenet", "roi_heads.box_predictor.cls_score"),
    ],
)
def test_what_is_not_a_number_is_told(name, part):
    """As `RawPredictions.check` refuses such a row: nothing found would be mAP 0 instead of a failure."""
    detector = build(name).eval()
    images = torch.zeros(2, 3, SIZE, SIZE, dtype=torch.uint8)
    with torch.inference_mode():
        for parameter in detector.network.get_submodule(part).parameters():
            parameter.fill_(torch.nan)
        boxes, scores, _ = detector.candidates(images)
    told = scores.isnan() & ~(boxes[..., 2:] <= boxes[..., :2]).any(-1)
    assert told.any(dim=1).all()


def test_one_image_that_is_not_a_number_leaves_the_others_alone():
    detector = build("fasterrcnn-mobilenet").eval()
    images = torch.randint(0, 256, (2, 3, SIZE, SIZE), dtype=torch.uint8)

    def spoil(_module, _inputs, outputs):
        outputs[0][0][1, 0, 0, 0] = torch.nan  # one objectness of the second image
        return outputs

    with torch.inference_mode():
        before = detector.candidates(images)
        detector.network.rpn.head.register_forward_hook(spoil)
        after = detector.candidates(images)
    assert not before.scores.isnan().any()
    assert after.scores[1].isnan().any()
    # As built, scores are nearly the same, so that the order of the boxes is chance.
    torch.testing.assert_close(after.scores[0][after.scores[0] > 0], before.scores[0][before.scores[0] > 0])


@pytest.mark.parametrize(
    "name", ["fasterrcnn-mobilenet", "retinanet-resnet50", "fcos-resnet50", "ssdlite320-mobilenet"]
)
def test_padded_rows_teach_nothing(name):
    images = scenes()
    detector = build(name).train()
    padded = torch.cat([BOXES, torch.zeros(2, 1, 4)], dim=1)
    labels = torch.cat([LABELS, torch.tensor([[PADDING]] * 2)], dim=1)
    results = []
    for boxes, classes in ((BOXES, LABELS), (padded, labels)):
        torch.manual_seed(1)
        results.append(copy.deepcopy(detector).losses(images, boxes, classes))
    assert results[0].keys() == results[1].keys()
    for key, value in results[0].items():
        torch.testing.assert_close(results[1][key], value)


@pytest.mark.parametrize(
    "name", ["fasterrcnn-mobilenet", "retinanet-resnet50", "fcos-resnet50", "ssdlite320-mobilenet"]
)
def test_images_without_objects_are_negatives(name):
    detector = build(name).train()
    losses = detector.losses(scenes(), torch.zeros(2, 0, 4), torch.zeros(2, 0, dtype=torch.int64))
    total = sum(losses.values())
    total.backward()
    assert torch.isfinite(total)
    # SSD mines its negatives per object, so that it learns nothing from such images; the others do.
    assert (total.item() > 0) == (name != "ssdlite320-mobilenet")


@pytest.mark.parametrize(
    "name", ["fasterrcnn-mobilenet", "retinanet-resnet50", "fcos-resnet50", "ssdlite320-mobilenet"]
)
def test_bfloat16_moves_no_anchor_and_losses_and_boxes_are_float32(name):
    detector = build(name).train()
    network = detector.network
    generator = network.rpn.anchor_generator if name.startswith("fasterrcnn") else network.anchor_generator
    seen = []
    generator.register_forward_hook(lambda _module, _inputs, anchors: seen.append(anchors[0]))
    images = scenes()
    detector.losses(images, BOXES, LABELS)
    with torch.autocast("cpu", torch.bfloat16):
        losses = detector.losses(images, BOXES, LABELS)
        with torch.inference_mode():
            candidates = detector.eval().candidates(images)
    assert [anchors.dtype for anchors in seen] == [torch.float32] * 3
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[0], seen[2])
    assert {value.dtype for value in losses.values()} == {torch.float32}
    assert candidates.boxes.dtype == candidates.scores.dtype == torch.float32


@pytest.mark.parametrize("name", [name for name in NAMES if name != "ssd300-vgg16"])  # which has no batch norm
def test_a_batch_of_one_small_image_trains(name):
    detector = build(name, canvas=Canvas(32, 32)).train()
    images = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    total = sum(detector.losses(images, torch.tensor([[[4.0, 6, 28, 30]]]), torch.tensor([[1]])).values())
    total.backward()
    assert torch.isfinite(total)


@pytest.mark.parametrize("name", ["fasterrcnn-resnet50", "fasterrcnn-resnet50-v2", "retinanet-resnet50"])
def test_a_step_reaches_every_parameter(name):
    detector = build(name).train()
    sum(detector.losses(scenes(), BOXES, LABELS).values()).backward()
    trained = {key: one.grad for key, one in detector.named_parameters() if one.requires_grad}
    assert not [key for key, gradient in trained.items() if gradient is None or not torch.isfinite(gradient).all()]
    # Few may be nothing at all: a bias before a batch norm, a level that no object lies on.
    assert sum(bool(gradient.any()) for gradient in trained.values()) > 0.9 * len(trained)


def test_explicit_anchors_are_exact_and_placed_as_torchvisions():
    sizes = (((46.3, 21.9), (7.5, 8.25)), ((90.1, 33.3), (20.0, 61.7)))
    image_list = ImageList(torch.zeros(1, 3, 64, 96), [(64, 96)])
    features = [torch.zeros(1, 1, 8, 12), torch.zeros(1, 1, 4, 6)]
    ours = ExplicitAnchors(sizes)
    theirs = AnchorGenerator(((1.0, 1.0), (1.0, 1.0)), ((1.0,), (1.0,)))
    assert ours.num_anchors_per_location() == [2, 2]
    placed, expected = ours(image_list, features)[0], theirs(image_list, features)[0]
    torch.testing.assert_close(
        placed[: 8 * 12 * 2, 2:] - placed[: 8 * 12 * 2, :2], torch.tensor(sizes[0]).repeat(8 * 12, 1), rtol=0, atol=1e-5
    )
    torch.testing.assert_close(placed[:, :2] + placed[:, 2:], expected[:, :2] + expected[:, 2:], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "reference", "grids", "exact_levels"),
    [
        ("ssdlite320-mobilenet", ssdlite320_mobilenet_v3_large, (20, 10, 5, 3, 2, 1), 6),
        # SSD300's steps of the last two levels, 100 and 300, suit 300 pixels only.
        ("ssd300-vgg16", ssd300_vgg16, (40, 20, 10, 5, 3, 1), 4),
    ],
)
def test_default_boxes_lie_where_torchvisions_ssd_has_them(name, reference, grids, exact_levels):
    generator = reference(weights=None, weights_backbone=None).anchor_generator
    features = [torch.zeros(1, 1, grid, grid) for grid in grids]
    images = ImageList(torch.zeros(1, 3, 320, 320), [(320, 320)])
    anchors = FAMILIES[name].default_anchors(Canvas(320, 320))
    ours = ExplicitDefaultBoxes(anchors)(images, features)[0]
    theirs = generator(images, features)[0]
    counts = generator.num_anchors_per_location()
    assert counts == [len(level) for level in anchors]
    torch.testing.assert_close(ours[:, 2:] - ours[:, :2], theirs[:, 2:] - theirs[:, :2], rtol=1e-4, atol=1e-4)
    exact = sum(grid**2 * count for grid, count in zip(grids[:exact_levels], counts, strict=False))
    torch.testing.assert_close(ours[:exact], theirs[:exact], rtol=1e-4, atol=1e-3)


def test_ssd_heads_follow_different_counts():
    counts = (1, 2, 3, 4, 5, 1)
    sizes = tuple(tuple((10.0 + i, 12.0) for i in range(count)) for count in counts)
    detector = build("ssdlite320-mobilenet", anchor_sizes=sizes).train()
    losses = detector.losses(scenes(), BOXES, LABELS)
    assert all(torch.isfinite(value) for value in losses.values())


def test_unequal_counts_are_refused_where_heads_are_shared():
    sizes = (((10.0, 10.0),),) * 4 + (((10.0, 10.0), (20.0, 20.0)),)
    with pytest.raises(ConfigError, match="share one head"):
        build_detector(TrialConfig(model="retinanet-resnet50", image_size=64, anchor_sizes=sizes), 2)


def test_equal_seeds_build_equal_networks():
    first, second = build("ssdlite320-mobilenet"), build("ssdlite320-mobilenet")
    for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b)
