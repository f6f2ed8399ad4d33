"""Training and judging on a real GPU; skipped where torch sees none."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from tuner.config.trial import Augment, TrialConfig
from tuner.data import scenes
from tuner.data.batch import Batch
from tuner.data.coco import load_dataset
from tuner.data.letterbox import Canvas, placements
from tuner.models.anchors import resolve_anchors
from tuner.models.build import build_detector
from tuner.models.catalog import FAMILIES
from tuner.trainers.contract import EpochResult, Interrupted, OutOfMemory, TrainingTask
from tuner.trainers.detection.ema import Ema
from tuner.trainers.detection.optimizer import build_optimizer, set_learning_rate
from tuner.trainers.detection.precision import Precision
from tuner.trainers.detection.predict import predict
from tuner.trainers.detection.step import TrainStep
from tuner.trainers.detection.train import train

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device here"),
    pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype feature"),
]
CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")
CANVAS = Canvas(128, 128)


def never() -> bool:
    return False


@contextmanager
def no_waits() -> Iterator[None]:
    """Within, CUDA refuses each operation for which the host would wait."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def held() -> int:
    """Bytes of the GPU that this process cannot give back."""
    gc.collect()
    torch.cuda.empty_cache()
    return torch.cuda.memory_reserved(CUDA)


@contextmanager
def memory_of(size: int) -> Iterator[None]:
    """Within, this process has so many bytes of the GPU beside those that earlier tests have left in use."""
    size += held()
    torch.cuda.set_per_process_memory_fraction(size / torch.cuda.get_device_properties(CUDA).total_memory)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()


def config_of(name: str, **changes: object) -> TrialConfig:
    anchors = FAMILIES[name].default_anchors(CANVAS)
    return TrialConfig(model=name, anchor_sizes=anchors, weights="none", batch_size=4, **changes)


def batch_of(number: int, images: int = 4) -> Batch:
    generator = torch.Generator().manual_seed(number)
    pixels = torch.randint(0, 256, (images, 3, 128, 128), dtype=torch.uint8, generator=generator)
    low = torch.rand(images, 8, 2, generator=generator) * 80
    boxes = torch.cat([low, low + 8 + torch.rand(images, 8, 2, generator=generator) * 40], dim=-1)
    labels = torch.randint(0, 3, (images, 8), generator=generator)
    labels[:, 5:] = -1
    labels[0, 1] = -2
    return Batch(pixels.contiguous(memory_format=torch.channels_last), boxes, labels)


def pinned(batch: Batch) -> Batch:
    return Batch(batch.images.pin_memory(), batch.boxes.pin_memory(), batch.labels.pin_memory())


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_step_of_dense_waits_for_nothing(precision: str, optimizer: str) -> None:
    config = config_of("dense-tiny", precision=precision, optimizer=optimizer)
    torch.manual_seed(0)
    detector = build_detector(config, 3).to(CUDA).to(memory_format=torch.channels_last).train()
    ema, adjust = Ema(detector, 0.9), build_optimizer(detector, config)
    step = TrainStep(detector, adjust, Precision(config, CUDA), config)
    step(batch_of(0).to(CUDA))  # makes what is made once
    ema.update()
    batches = [pinned(batch_of(number)) for number in range(1, 4)]
    torch.cuda.synchronize()
    with no_waits():
        for batch in batches:
            set_learning_rate(adjust, 1e-3)
            losses = step(batch.to(CUDA))
            ema.update()
    assert all(torch.isfinite(value) for value in losses.values())


@pytest.mark.parametrize("name", list(FAMILIES))
def test_every_family_trains_and_predicts_in_mixed_precision(name: str) -> None:
    config = config_of(name, precision="bf16")
    torch.manual_seed(0)
    detector = build_detector(config, 3).to(CUDA).to(memory_format=torch.channels_last).train()
    step = TrainStep(detector, build_optimizer(detector, config), Precision(config, CUDA), config)
    for number in range(2):
        losses = step(batch_of(number).to(CUDA))
        assert all(torch.isfinite(value) for value in losses.values())
    sizes = np.full((4, 2), 128, np.int32)
    raw = predict(detector, [batch_of(9).images], placements(sizes, CANVAS), sizes, Precision(config, CUDA))
    raw.check(4, 3)


@pytest.mark.parametrize("name", ["dense-tiny", "ssdlite320-mobilenet", "fasterrcnn-mobilenet-320"])
def test_predictions_are_the_cpu_s(name: str) -> None:
    config = config_of(name, precision="fp32")
    torch.manual_seed(0)
    detector = build_detector(config, 3).eval()
    sizes, images = np.full((8, 2), 128, np.int32), batch_of(0, images=8).images
    where = placements(sizes, CANVAS)
    want = predict(detector, images.split(3), where, sizes, Precision(config, CPU))
    exact = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        found = predict(detector.to(CUDA), images.split(3), where, sizes, Precision(config, CUDA))
    finally:
        torch.backends.cudnn.allow_tf32 = exact
    # Equal up to rounding, which may drop a candidate or order two of them otherwise: compare the best.
    for image in range(8):
        ours, theirs = (slice(raw.offsets[image], raw.offsets[image] + 20) for raw in (found, want))
        np.testing.assert_allclose(np.sort(found.scores[ours]), np.sort(want.scores[theirs]), rtol=1e-3, atol=1e-4)
    assert abs(len(found.scores) - len(want.scores)) <= 0.01 * len(want.scores)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> TrainingTask:
    folder: Path = tmp_path_factory.mktemp("scenes")
    data = scenes.generate(folder, train=48, val=16, test=4, size=(160, 120), seed=1)
    config = TrialConfig(
        image_size=160,
        epochs=36,
        batch_size=4,
        anchors="kmeans-iou-balanced-1",
        warmup_epochs=0.5,
        ema_decay=0.9,
        learning_rate=3e-3,
        augment=Augment(strength=0.1, mosaic=0.0),
    )
    config = resolve_anchors(config, load_dataset(data).train)
    return TrainingTask(
        config=config,
        seed=3,
        data=data,
        device="cuda",
        threads=4,
        workdir=folder / "trial",
        cache_dir=folder / "cache",
    )


def variant(task: TrainingTask, name: str, **changes: object) -> TrainingTask:
    config = task.config.model_copy(update=changes)
    return dataclasses.replace(task, workdir=task.workdir.with_name(name), config=config)


@pytest.mark.parametrize("precision", ["auto", "fp32", "fp16"])
def test_learns(task: TrainingTask, precision: str) -> None:
    results = list(train(variant(task, f"learns-{precision}", precision=precision), never))
    assert results[0].executed["precision"] == {"auto": "bf16"}.get(precision, precision)
    assert results[0].metrics.map is not None
    assert results[-1].metrics.map is not None
    assert results[0].metrics.map < 0.05
    assert results[-1].metrics.map > 0.15  # on an H200: 0.217 to 0.293 over four seeds, in each precision
    assert results[-1].peak_memory > 2**20
    assert "micro_batch" not in results[-1].executed


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_an_interrupted_training_goes_on_as_an_undisturbed_one(task: TrainingTask, precision: str) -> None:
    """Not bit for bit: sums of CUDA have no fixed order."""
    whole = list(train(variant(task, f"whole-{precision}", epochs=4, precision=precision), never))
    parted, asked = variant(task, f"parted-{precision}", epochs=4, precision=precision), []

    def in_the_second_epoch() -> bool:
        asked.append(1)
        return len(asked) > 18

    results: list[EpochResult] = []
    with pytest.raises(Interrupted):
        results.extend(train(parted, in_the_second_epoch))
    results.extend(train(parted, never))
    assert [result.epoch for result in results] == [1, 2, 3, 4]
    for ours, theirs in zip(results, whole, strict=True):
        assert ours.learning_rate == theirs.learning_rate
        assert sum(ours.losses.values()) == pytest.approx(sum(theirs.losses.values()), rel=0.03)


def test_out_of_memory_halves_the_micro_batch_and_training_goes_on(task: TrainingTask) -> None:
    changes: dict[str, object] = {"epochs": 2, "batch_size": 48, "precision": "fp32"}
    before = held()
    (*_, whole) = train(variant(task, "roomy", **changes), never)
    assert "micro_batch" not in whole.executed
    with memory_of((whole.peak_memory - before) * 6 // 10):
        cramped = list(train(variant(task, "cramped", **changes), never))
        size = int(cramped[-1].executed["micro_batch"])
        assert size in (6, 12, 24)
        assert sum(cramped[0].losses.values()) == pytest.approx(sum(whole.losses.values()), rel=0.5)
        # A trial that is told of it begins with it.
        told = dataclasses.replace(variant(task, "told", **changes), micro_batch=size)
        assert int(next(iter(train(told, never))).executed["micro_batch"]) == size


def test_a_gpu_that_holds_not_one_image_says_so(task: TrainingTask) -> None:
    with memory_of(24 * 2**20), pytest.raises((OutOfMemory, torch.OutOfMemoryError)):
        list(train(variant(task, "no room", epochs=1, image_size=640), never))


def test_the_cost_of_an_image_is_measured(task: TrainingTask) -> None:
    asked = dataclasses.replace(variant(task, "cost", epochs=1), measure_cost=True)
    cost = list(train(asked, never))[-1].metrics.cost
    assert cost is not None
    assert cost.inference_memory_mb is not None
    assert cost.inference_memory_mb > 1
