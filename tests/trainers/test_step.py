"""A batch that goes through the network in parts teaches what the whole batch does."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from tuner.config.trial import TrialConfig
from tuner.data.batch import Batch
from tuner.data.letterbox import Canvas
from tuner.models.build import build_detector
from tuner.models.catalog import family
from tuner.models.detector import Detector
from tuner.trainers.detection.precision import Precision
from tuner.trainers.detection.step import TrainStep

SIZE = 96


def batch() -> Batch:
    """Four images with 6, 1, 0 and 2 objects, the second with a crowd region too."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (4, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)
    low = torch.rand(4, 6, 2, generator=generator) * 50
    boxes = torch.cat([low, low + 10 + torch.rand(4, 6, 2, generator=generator) * 30], dim=-1)
    labels = torch.randint(0, 2, (4, 6), generator=generator)
    for image, count in enumerate((6, 1, 0, 2)):
        labels[image, count:] = -1
    labels[1, 1] = -2
    return Batch(images, boxes, labels)


def config(model: str) -> TrialConfig:
    anchors = family(model).default_anchors(Canvas(SIZE, SIZE))
    return TrialConfig(model=model, anchor_sizes=anchors, precision="fp32", batch_size=4, gradient_clip=0.0)


def built(model: str) -> Detector:
    """A network whose scores differ from anchor to anchor, as a trained one's do."""
    torch.manual_seed(0)
    detector = build_detector(config(model), 2)
    if model.startswith("dense"):
        nn.init.normal_(detector.network.head.classes.weight, std=0.15)
    return detector.train()


def gradients(detector: Detector, model: str, micro_batch: int, of: Batch) -> tuple[Tensor, dict[str, float]]:
    optimizer = torch.optim.SGD(detector.parameters(), lr=0.0)
    step = TrainStep(detector, optimizer, Precision(config(model), torch.device("cpu")), config(model))
    step.micro_batch = micro_batch
    losses = {name: float(value) for name, value in step(of).items()}
    return torch.cat([p.grad.flatten() for p in detector.parameters() if p.grad is not None]), losses


@pytest.mark.parametrize("micro_batch", [1, 3])
@pytest.mark.parametrize("model", ["dense-tiny", "ssdlite320-mobilenet", "fcos-resnet50", "retinanet-resnet50"])
def test_parts_of_a_batch_teach_what_the_whole_does(model: str, micro_batch: int) -> None:
    detector = built(model)
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    whole, losses = gradients(detector, model, 4, batch())
    parts, same_losses = gradients(detector, model, micro_batch, batch())
    assert same_losses == pytest.approx(losses, rel=1e-4)
    assert float((parts - whole).norm() / whole.norm()) < 1e-3


def test_parts_without_any_object_are_divided_as_the_whole() -> None:
    detector = built("dense-tiny").eval()
    empty = Batch(batch().images, batch().boxes, torch.full_like(batch().labels, -1))
    whole, losses = gradients(detector, "dense-tiny", 4, empty)
    parts, same_losses = gradients(detector, "dense-tiny", 1, empty)
    assert same_losses == pytest.approx(losses, rel=1e-4)
    assert float((parts - whole).norm() / whole.norm()) < 1e-3


def test_batch_norms_count_each_part_once() -> None:
    detector = built("dense-tiny")
    reference = copy.deepcopy(detector)
    gradients(detector, "dense-tiny", 2, batch())
    for part in (slice(2), slice(2, 4)):
        reference.losses(batch().images[part], batch().boxes[part], batch().labels[part])
    for (name, found), want in zip(detector.named_buffers(), reference.buffers(), strict=True):
        assert torch.equal(found, want), name
