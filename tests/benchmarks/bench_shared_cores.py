"""What trainings lose to each other on the same cores, by how long their threads wait awake.

    python -m tests.benchmarks.bench_shared_cores [--trainings 2] [--seconds 10]

Steps of `dense-tiny` at 320 px with a thread for each core: one process alone, then several at once, with GNU OpenMP's
default and with what tuner sets (`tuner/config/openmp.py`).
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys

SIZE = 320
STEPS = """
import sys, time, torch
from tests.benchmarks.bench_shared_cores import make_step
step, batch = make_step()
for _ in range(3):
    step(batch)
steps, start = 0, time.perf_counter()
while time.perf_counter() - start < float(sys.argv[1]):
    step(batch)
    steps += 1
print((time.perf_counter() - start) / steps)
"""


def make_step():
    """A training step and a batch for it."""
    import torch

    from tuner.config.trial import TrialConfig
    from tuner.data.batch import Batch
    from tuner.data.letterbox import Canvas
    from tuner.models.build import build_detector
    from tuner.models.catalog import family
    from tuner.trainers.detection.optimizer import build_optimizer
    from tuner.trainers.detection.precision import Precision
    from tuner.trainers.detection.step import TrainStep

    anchors = family("dense-tiny").default_anchors(Canvas(SIZE, SIZE))
    config = TrialConfig(model="dense-tiny", anchor_sizes=anchors, image_size=SIZE, precision="fp32")
    detector = build_detector(config, 3).train()
    step = TrainStep(detector, build_optimizer(detector, config), Precision(config, torch.device("cpu")), config)
    boxes = torch.tensor([[40.0, 40.0, 120.0, 100.0], [150.0, 80.0, 220.0, 300.0]]).expand(4, 2, 4)
    images = torch.randint(0, 256, (4, 3, SIZE, SIZE), dtype=torch.uint8)
    return step, Batch(images, boxes, torch.zeros(4, 2, dtype=torch.int64))


def seconds_a_step(trainings: int, seconds: float, spins: int | None) -> float:
    """Mean over so many trainings at once."""
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    if spins is not None:
        environment["GOMP_SPINCOUNT"] = str(spins)
    environment["OMP_NUM_THREADS"] = str(len(os.sched_getaffinity(0)))
    command = [sys.executable, "-c", STEPS, str(seconds)]
    processes = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(trainings)
    ]
    return statistics.mean(float(process.communicate()[0]) for process in processes)


def main() -> None:
    """Run the benchmark and print its figures."""
    from tuner.config.openmp import SPINS

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trainings", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    for trainings in (1, options.trainings):
        usual, ours = (seconds_a_step(trainings, options.seconds, spins) for spins in (None, SPINS))
        print(f"{trainings} at once: {usual:.3f} s a step by default, {ours:.3f} s with tuner's: {usual / ours:.1f} x")


if __name__ == "__main__":
    main()
