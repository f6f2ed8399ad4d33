"""One epoch of `dense-tiny` as the trainer runs it, against forward, backward and update alone on the same batches.

    python tests/benchmarks/bench_epoch.py [FOLDER] [--device cpu|cuda] [--rounds 3]

FOLDER holds images/ and annotations/{train,val}.json; without it, scenes are generated. Both sides do the same
steps in turn, epoch by epoch, in one process; the ratio of each round and their median are printed. The trainer's
side adds making the batches, the schedule, clipping, averaging, loss bookkeeping and saving the checkpoint (on a GPU
that goes on beside the evaluation, and is not counted).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from tuner.config.study import DataSpec
from tuner.config.trial import TrialConfig
from tuner.data import scenes
from tuner.data.batches import TrainingBatches
from tuner.data.cache import open_cache
from tuner.data.coco import load_dataset
from tuner.data.letterbox import canvas_for
from tuner.models.anchors import resolve_anchors
from tuner.models.build import build_detector
from tuner.trainers.contract import TrainingTask
from tuner.trainers.detection.optimizer import build_optimizer
from tuner.trainers.detection.precision import Precision, resolve_device
from tuner.trainers.detection.step import TrainStep
from tuner.trainers.detection.train import train


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        run(arguments.folder, arguments.device, arguments.rounds, Path(scratch))


def run(folder: Path | None, device_name: str, rounds: int, scratch: Path) -> None:
    """Alternate the two sides for some rounds."""
    if folder is None:
        data = scenes.generate(scratch / "scenes", train=200, val=8, test=8, size=(320, 256), seed=0)
    else:
        data = DataSpec(root=folder, train="annotations/train.json", val="annotations/val.json", on_bad_boxes="repair")
    torch.set_num_threads(1)
    split = load_dataset(data).train
    config = resolve_anchors(TrialConfig(epochs=rounds + 1, gradient_clip=0.0), split)
    device = resolve_device(device_name)
    task = TrainingTask(config, 0, data, device_name, 1, scratch / "trial", scratch / "cache")
    whole = train(task, lambda: False)
    next(whole)  # the first epoch warms both sides up: cache, allocator, kernels

    images = open_cache(split, canvas_for(split.sizes, config.image_size), scratch / "cache")
    batches = TrainingBatches(split, images, config.augment, config.batch_size, task.seed, config.epochs)
    detector = build_detector(config, len(split.classes)).to(device).to(memory_format=torch.channels_last).train()
    step = TrainStep(detector, build_optimizer(detector, config), Precision(config, device), config)
    ready = [batch.to(device) for batch in batches.epoch(1)]
    step(ready[0])
    ratios = []
    for number in range(1, rounds + 1):
        ready = [batch.to(device) for batch in batches.epoch(number)]
        alone = seconds(lambda ready=ready: [step(batch) for batch in ready], device)
        trainer = next(whole).train_seconds
        ratios.append(trainer / alone)
        print(f"epoch {number}: trainer {trainer:.2f} s, steps alone {alone:.2f} s, ratio {ratios[-1]:.3f}")
    print(f"one epoch against its steps alone on {device}: {statistics.median(ratios):.3f} x")


def seconds(work: object, device: torch.device) -> float:
    """Wall time of a call, with the device's queue empty before and after."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    work()  # type: ignore[operator]
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
