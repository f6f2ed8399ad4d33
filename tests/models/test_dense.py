"""The dense detector: it learns, it ignores crowds, and its parts do what their texts say."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import get_model

from tuner.config.errors import ConfigError, WeightsError
from tuner.config.trial import AnchorSizes, TrialConfig
from tuner.data.batch import IGNORE, PADDING
from tuner.models.boxes import iou
from tuner.models.build import build_detector
from tuner.models.dense import DenseDetector, anchor_grid
from tuner.models.dense_network import DenseHead
from tuner.models.dense_trunks import NORM_EPS, shufflenet
from tuner.models.detector import Detector
from tuner.models.input_convention import IMAGENET_MEAN, IMAGENET_STD
from tuner.models.losses import quality_focal_loss

ANCHORS: AnchorSizes = (((12.0, 12.0),), ((28.0, 28.0),), ((60.0, 60.0),))


def tiny(classes: int = 2, **changes: object) -> Detector:
    torch.manual_seed(0)
    return build_detector(TrialConfig(model="dense-tiny", anchor_sizes=ANCHORS, **changes), classes)  # type: ignore[arg-type]


def squares() -> tuple[Tensor, Tensor, Tensor]:
    """Two images, each with a red and a blue square on grey."""
    images = torch.full((2, 3, 64, 96), 90, dtype=torch.uint8)
    boxes = torch.zeros(2, 4, 4)
    labels = torch.full((2, 4), PADDING)
    for i, ((x, y, s), (u, v, t)) in enumerate((((8, 10, 24), (60, 20, 16)), ((50, 8, 40), (10, 30, 28)))):
        images[i, 0, y : y + s, x : x + s] = 250
        images[i, 2, v : v + t, u : u + t] = 250
        boxes[i, :2] = torch.tensor([[x, y, x + s, y + s], [u, v, u + t, v + t]])
        labels[i, :2] = torch.tensor([0, 1])
    return images, boxes, labels


def quality_of_best(detector: Detector, images: Tensor, boxes: Tensor, labels: Tensor) -> float:
    """Mean IoU of the highest-scoring candidate of each object's class with the object."""
    detector.eval()
    with torch.inference_mode():
        found = detector.candidates(images)
    values = []
    for i in range(len(images)):
        for box, label in zip(boxes[i], labels[i], strict=True):
            if label >= 0:
                first = int((found.labels[i] == label).float().argmax())
                values.append(float(iou(found.boxes[i, first], box)))
    return sum(values) / len(values)


def test_learns_what_it_is_shown() -> None:
    images, boxes, labels = squares()
    detector = tiny()
    before = quality_of_best(detector, images, boxes, labels)
    optimizer = torch.optim.AdamW(detector.parameters(), lr=1e-3)
    detector.train()
    losses = []
    for _ in range(120):
        loss = torch.stack(list(detector.losses(images, boxes, labels).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    # Batch-norm statistics settle at the final weights before the model is judged.
    with torch.no_grad():
        for _ in range(30):
            detector.losses(images, boxes, labels)
    assert sum(losses[-10:]) / 10 < 0.6 * losses[0]
    assert before < 0.4
    assert quality_of_best(detector, images, boxes, labels) > 0.8


def arrows(count: int, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Images with one triangle each, which points to the left (class 0) or to the right."""
    images = torch.full((count, 3, 64, 64), 90, dtype=torch.uint8)
    boxes = torch.zeros(count, 1, 4)
    labels = torch.randint(0, 2, (count, 1), generator=random)
    for i in range(count):
        size = int(torch.randint(16, 33, (), generator=random))
        x, y = torch.randint(0, 64 - size, (2,), generator=random).tolist()
        side = torch.arange(size)
        width = side if labels[i] == 0 else size - 1 - side
        inside = (2 * side - size + 1).abs()[:, None] <= width
        images[i, :, y : y + size, x : x + size][:, inside] = 230
        boxes[i, 0] = torch.tensor([x, y, x + size, y + size])
    return images, boxes, labels


def test_tells_classes_apart_that_differ_by_direction_alone() -> None:
    """In a head whose classes share the boxes' tower, they are at chance for hundreds of steps more."""
    random = torch.Generator().manual_seed(0)
    detector = tiny().train()
    optimizer = torch.optim.AdamW(detector.parameters(), lr=2e-3)

    def right() -> float:
        images, _, labels = arrows(100, torch.Generator().manual_seed(1))
        with torch.inference_mode():
            return float((detector.eval().candidates(images).labels[:, 0] == labels[:, 0]).float().mean())

    assert right() < 0.7
    detector.train()
    for _ in range(250):
        loss = torch.stack(list(detector.losses(*arrows(8, random)).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert right() > 0.95


def test_candidates_are_padded_sorted_and_bounded() -> None:
    detector = tiny(classes=3).eval()
    with torch.inference_mode():
        found = detector.candidates(squares()[0])
    rows = min(Detector.max_candidates, (12 * 8 + 6 * 4 + 3 * 2) * 3)
    assert found.boxes.shape == (2, rows, 4)
    assert found.boxes.dtype == torch.float32
    assert (found.scores.diff(dim=1) <= 0).all()
    assert int(found.labels.max()) <= 2


def test_there_are_ten_candidates_for_each_detection_that_is_kept() -> None:
    assert tiny().max_candidates == tiny(max_detections=20).max_candidates == 1000
    detector = tiny(max_detections=200)
    assert detector.max_candidates == 2000
    with torch.inference_mode():
        found = detector.eval().candidates(torch.zeros(1, 3, 256, 256, dtype=torch.uint8))
    assert found.scores.shape == (1, 2000)


def test_an_image_without_objects_teaches_that_there_is_nothing() -> None:
    images, boxes, labels = squares()
    losses = tiny().losses(images, torch.zeros_like(boxes), torch.full_like(labels, PADDING))
    assert losses["class"].item() > 0
    assert losses["box"].item() == 0


@pytest.mark.parametrize("model", ["dense-tiny", "dense-shufflenet", "dense-small"])
def test_a_batch_of_one_small_image_trains(model: str) -> None:
    detector = build_detector(TrialConfig(model=model, anchor_sizes=ANCHORS), 2).train()
    images = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    losses = detector.losses(images, torch.tensor([[[4.0, 6, 28, 30]]]), torch.tensor([[1]]))
    total = torch.stack(list(losses.values())).sum()
    total.backward()
    assert torch.isfinite(total)


def test_the_head_sees_in_training_what_it_sees_in_evaluation() -> None:
    """With batch norms an image unlike the others of its batch would differ, and be full of detections."""
    torch.manual_seed(0)
    head = DenseHead(channels=32, anchors=2, classes=3, depth=2)
    levels = [torch.randn(4, 32, 8, 8), torch.randn(4, 32, 4, 4)]
    for level in levels:
        level[-1] = 5 * level[-1] + 3
    together = head.train()(levels)
    alone = head.eval()([level[-1:] for level in levels])
    for trained, evaluated in zip(itertools.chain(*together), itertools.chain(*alone), strict=True):
        torch.testing.assert_close(trained[-1:], evaluated)


def test_background_in_a_crowd_region_costs_nothing() -> None:
    images, boxes, labels = squares()
    everywhere = torch.tensor([0.0, 0.0, 96.0, 64.0])
    crowd = boxes.clone()
    crowd[:, 0] = everywhere
    crowd_labels = torch.full_like(labels, PADDING)
    crowd_labels[:, 0] = IGNORE
    assert tiny().losses(images, crowd, crowd_labels)["class"].item() == 0
    boxes[:, 2], labels[:, 2] = everywhere, IGNORE
    assert tiny().losses(images, boxes, labels)["class"].item() > 0


def test_the_loss_does_not_depend_on_the_padding() -> None:
    images, boxes, labels = squares()
    wide = torch.cat((boxes, torch.zeros(2, 8, 4)), dim=1)
    wide_labels = torch.cat((labels, torch.full((2, 8), PADDING)), dim=1)
    for name, value in tiny().losses(images, boxes, labels).items():
        torch.testing.assert_close(tiny().losses(images, wide, wide_labels)[name], value)


def test_anchors_stand_on_cell_centres_of_each_level() -> None:
    grid = anchor_grid(ANCHORS, (8, 16, 32), 64, 96, torch.device("cpu"))
    assert len(grid.boxes) == 12 * 8 + 6 * 4 + 3 * 2
    assert grid.boxes[0].tolist() == [4 - 6, 4 - 6, 4 + 6, 4 + 6]
    assert grid.boxes[1].tolist() == [12 - 6, 4 - 6, 12 + 6, 4 + 6]  # x runs fastest
    assert grid.boxes[-1].tolist() == [80 - 30, 48 - 30, 80 + 30, 48 + 30]


def test_half_precision_moves_no_box() -> None:
    detector = tiny().eval()
    images = squares()[0]
    with torch.inference_mode():
        exact = detector.candidates(images)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = detector.candidates(images)
    assert isinstance(detector, DenseDetector)
    assert rounded.boxes.dtype == torch.float32
    # Untrained offsets are near 0, so boxes are anchors: rounded to bf16 they would be off by up to half a pixel.
    assert float((exact.boxes.sum((1, 2)) - rounded.boxes.sum((1, 2))).abs().max()) / exact.boxes[0].numel() < 0.05


def test_quality_focal_loss_from_its_definition() -> None:
    logits, quality = torch.tensor([-3.0, 0.2, 2.0]), torch.tensor([0.0, 0.7, 1.0])
    p = logits.sigmoid()
    expected = -((quality - p).abs() ** 2) * ((1 - quality) * (1 - p).log() + quality * p.log())
    torch.testing.assert_close(quality_focal_loss(logits, quality), expected)


def test_anchors_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="1 levels, but dense-tiny has 3"):
        build_detector(TrialConfig(anchor_sizes=(((1.0, 1.0),),)), 2)
    with pytest.raises(ConfigError, match="has anchors, but the config holds none"):
        build_detector(TrialConfig(), 2)


def test_tiny_has_no_pretrained_weights() -> None:
    with pytest.raises((ConfigError, WeightsError), match="no pretrained weights"):
        tiny(weights="default")


def photographs(count: int = 8) -> Tensor:
    """Smooth random images around the mean colour of photographs, RGB in 0 … 1."""
    generator = torch.Generator().manual_seed(4)
    coarse = torch.randn(count, 3, 6, 6, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(64, 64), mode="bilinear")
    return (torch.tensor(IMAGENET_MEAN).view(3, 1, 1) + 0.2 * smooth).clamp(0, 1)


@pytest.mark.parametrize("convention", ["rgb", "bgr", "normalised"])
def test_weights_are_given_the_images_that_they_were_trained_on(convention: str, tmp_path: Path) -> None:
    rgb = photographs()
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    wanted = {"rgb": rgb, "bgr": rgb.flip(1), "normalised": (rgb - mean) / deviation}[convention]
    torch.manual_seed(8)
    network = get_model("shufflenet_v2_x0_5", weights=None)
    for _ in range(40):  # its norms remember these images
        network(wanted)
    torch.save(network.state_dict(), tmp_path / "weights.pth")

    trunk = shufflenet("shufflenet_v2_x0_5", str(tmp_path / "weights.pth")).eval()
    network.eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = NORM_EPS
    with torch.no_grad():
        expected = network.stage2(network.maxpool(network.conv1(wanted)))
        torch.testing.assert_close(trunk(rgb)[0], expected)
        # A trained detector is built without its pretrained weights: what its images need is in its own.
        rebuilt = shufflenet("shufflenet_v2_x0_5", "none").eval()
        rebuilt.load_state_dict(trunk.state_dict())
        torch.testing.assert_close(rebuilt(rgb)[0], expected)
