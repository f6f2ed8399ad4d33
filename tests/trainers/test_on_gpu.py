"""Training and prediction on a simulated GPU: no devices are mixed up, results are the CPU's, no step waits."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.simulated_gpu import CUDA, DeviceTensor, SimulatedGpu, simulated_gpu
from tuner.config.trial import Tiles, TrialConfig
from tuner.data import scenes
from tuner.data.batch import Batch
from tuner.data.coco import load_dataset
from tuner.data.letterbox import Canvas, placements
from tuner.models.anchors import resolve_anchors
from tuner.models.build import build_detector
from tuner.models.catalog import FAMILIES
from tuner.models.detector import Detector
from tuner.trainers.contract import DiskFull, EpochResult, TrainingTask
from tuner.trainers.detection import checkpoint
from tuner.trainers.detection.ema import Ema
from tuner.trainers.detection.optimizer import build_optimizer, set_learning_rate
from tuner.trainers.detection.precision import Precision
from tuner.trainers.detection.predict import predict
from tuner.trainers.detection.step import TrainStep
from tuner.trainers.detection.train import train

SIZE = 96
CANVAS = Canvas(SIZE, SIZE)
CPU = torch.device("cpu")
SOME = ["dense-tiny", "ssdlite320-mobilenet", "fasterrcnn-mobilenet-320"]
"""One of each kind; `test_predict` asks all families whether they wait for predictions."""


def config_of(name: str, **changes: object) -> TrialConfig:
    anchors = FAMILIES[name].default_anchors(CANVAS)
    values = {"precision": "fp32", "weights": "none", "batch_size": 4, "gradient_clip": 1.0, **changes}
    return TrialConfig(model=name, anchor_sizes=anchors, **values)


def built(config: TrialConfig, device: torch.device) -> Detector:
    torch.manual_seed(0)
    detector = build_detector(config, 3)
    if config.model.startswith("fasterrcnn"):  # fewer regions: the second stage is what costs on a CPU
        detector.network.roi_heads.fg_bg_sampler.batch_size_per_image = 24
        detector.network.rpn._post_nms_top_n = {"training": 48, "testing": 48}
    return detector.to(device).to(memory_format=torch.channels_last)


def batch_of(number: int, images: int = 4) -> Batch:
    generator = torch.Generator().manual_seed(number)
    pixels = torch.randint(0, 256, (images, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)
    low = torch.rand(images, 8, 2, generator=generator) * 60
    boxes = torch.cat([low, low + 4 + torch.rand(images, 8, 2, generator=generator) * 30], dim=-1)
    labels = torch.randint(0, 3, (images, 8), generator=generator)
    labels[:, 3:] = -1
    labels[:2, 1] = -2
    labels[-1] = -1
    return Batch(pixels.contiguous(memory_format=torch.channels_last), boxes, labels)


def steps(
    config: TrialConfig, gpu: SimulatedGpu | None = None, *, number: int = 3, micro_batch: int = 4
) -> tuple[list[dict[str, float]], dict[str, torch.Tensor], list[Counter[str]]]:
    """Losses of each step, averaged weights after the first, and the operations that each step waited for."""
    device = CUDA if gpu else CPU
    detector = built(config, device).train()
    ema, optimizer = Ema(detector, 0.9), build_optimizer(detector, config)
    step = TrainStep(detector, optimizer, Precision(config, device), config)
    step.micro_batch = micro_batch
    losses, waits, weights = [], [], {}
    torch.manual_seed(1)
    for i in range(number):
        batch = batch_of(i)
        if gpu:
            gpu.waits.clear()
            batch = Batch(*(gpu.pin(t) for t in (batch.images, batch.boxes, batch.labels)))
        set_learning_rate(optimizer, 0.002 * (i + 1))
        losses.append(step(batch.to(device)))
        ema.update()
        waits.append(Counter(f"{wait.operation} {wait.place}" for wait in gpu.waits) if gpu else Counter())
        state = {name: t.held if isinstance(t, DeviceTensor) else t for name, t in ema.model.state_dict().items()}
        weights = weights or {name: t.clone() for name, t in state.items()}
    return [{name: float(value) for name, value in each.items()} for each in losses], weights, waits


@pytest.mark.parametrize(
    ("optimizer", "micro_batch", "precision"),
    [("sgd", 4, "fp32"), ("sgd", 3, "fp16"), ("adamw", 4, "fp32"), ("adamw", 4, "fp16")],
)
def test_a_step_of_dense_waits_for_nothing(optimizer: str, micro_batch: int, precision: str) -> None:
    """fp16: the scaler's part; the arithmetic stays float32, and a power of two changes nothing."""
    config = config_of("dense-tiny", optimizer=optimizer)
    losses, weights, _ = steps(config, micro_batch=micro_batch)
    with simulated_gpu() as gpu:
        scaled = config.model_copy(update={"precision": precision})
        found, averaged, waits = steps(scaled, gpu, micro_batch=micro_batch)
    # torch 2.11 rounds otherwise, and AdamW makes a whole step of a gradient that is rounding alone.
    rounded = torch.__version__.startswith("2.11.")
    assert found[0] == (pytest.approx(losses[0], rel=1e-6) if rounded else losses[0])
    near = 0.02 if rounded and optimizer == "adamw" else 1e-3
    assert found == [pytest.approx(each, rel=near) for each in losses]
    if optimizer == "sgd":
        for name in weights:
            torch.testing.assert_close(averaged[name], weights[name], rtol=1e-4, atol=1e-6)
    first, *others = waits
    assert {place.partition(":")[0] for place in first} == {"copy to the device models/dense.py"}  # anchors, made once
    assert others == [Counter(), Counter()]


@pytest.mark.parametrize("name", SOME[1:])
def test_a_step_of_each_kind_mixes_nothing_up(name: str) -> None:
    config = config_of(name, optimizer="sgd")
    losses, _, _ = steps(config, number=2)
    with simulated_gpu() as gpu:
        found, _, waits = steps(config, gpu, number=2)
    assert found[0] == pytest.approx(losses[0], rel=1e-5)
    assert found[1] == pytest.approx(losses[1], rel=1e-2)
    # One wait for all images, where their boxes are counted; the others are torchvision's.
    assert [count for place, count in waits[1].items() if place.startswith("tolist")] == [1]


@pytest.mark.parametrize("name", SOME)
def test_prediction_equals_the_cpu_s_and_waits_for_no_image(name: str) -> None:
    config = config_of(name)
    detector = built(config, CPU).eval()
    images = batch_of(0, images=8).images

    def run(count: int, batch_size: int, device: torch.device):
        sizes = np.full((count, 2), SIZE, np.int32)
        batches = images[:count].split(batch_size)
        return predict(detector, batches, placements(sizes, CANVAS), sizes, Precision(config, device))

    want = run(4, 2, CPU)
    with simulated_gpu() as gpu:
        detector.to(CUDA)
        found = run(4, 2, CUDA)
        looks = []
        for count, batch_size in ((2, 2), (8, 8), (8, 2)):
            gpu.waits.clear()
            run(count, batch_size, CUDA)
            looks.append(len(gpu.waits))
    for part in ("labels", "offsets", "scores", "boxes"):
        np.testing.assert_allclose(getattr(found, part), getattr(want, part), rtol=1e-5, atol=1e-3)
    if not name.startswith("fasterrcnn"):  # whose proposals torchvision suppresses image by image
        assert looks == [0, 0, 0]


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> TrainingTask:
    folder: Path = tmp_path_factory.mktemp("scenes")
    data = scenes.generate(folder, train=8, val=3, test=2, size=(96, 96), seed=1)
    config = TrialConfig(image_size=96, epochs=2, batch_size=4, anchors="kmeans-iou-balanced-1", precision="fp32")
    config = resolve_anchors(config, load_dataset(data).train)
    return TrainingTask(
        config=config,
        seed=3,
        data=data,
        device="cpu",
        threads=1,
        workdir=folder / "cpu",
        cache_dir=folder / "cache",
    )


@pytest.mark.parametrize("tiles", [Tiles(), Tiles(size=64)])
def test_a_whole_training_waits_for_losses_and_files_alone(task: TrainingTask, tiles: Tiles) -> None:
    config, folder = task.config.model_copy(update={"tiles": tiles}), task.workdir / str(tiles.size)
    task = dataclasses.replace(task, config=config, workdir=folder / "cpu")
    on_cpu: list[EpochResult] = list(train(task, lambda: False))
    waits, results = [], []
    with simulated_gpu() as gpu:
        there = dataclasses.replace(task, device="cuda", workdir=folder / "gpu")
        for result in train(there, lambda: False):
            results.append(result)
            waits.append({(wait.operation, wait.place.partition(":")[0]) for wait in gpu.waits})
            gpu.waits.clear()
    assert waits[-1] == {
        ("_local_scalar_dense", "trainers/detection/run.py"),  # the mean losses of an epoch
        ("copy to a file", "trainers/detection/checkpoint.py"),
    }
    assert results[0].losses == pytest.approx(on_cpu[0].losses, rel=1e-3)
    assert results[0].executed == on_cpu[0].executed


def test_a_checkpoint_that_cannot_be_written_meanwhile_ends_the_training(
    task: TrainingTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, state: object) -> None:
        path.parent.mkdir()
        raise DiskFull(f"checkpoint {path} cannot be written")

    monkeypatch.setattr(checkpoint, "save", full)
    there = dataclasses.replace(task, device="cuda", workdir=task.workdir / "full")
    with simulated_gpu(), pytest.raises(DiskFull, match="cannot be written"):
        list(train(there, lambda: False))
