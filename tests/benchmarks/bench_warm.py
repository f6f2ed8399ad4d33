"""From the end of one trial to the first step of the next in a warm trial process, against a fresh process.

    python -m tests.benchmarks.bench_warm [--workers 3] [--trials 5] [--image-size 320]

Real trials of the built-in trainer on generated scenes, by real workers with one slot each. The warm figure holds all
that lies between two trials: the end told to the database, the next trial asked for, its model built. The fresh one
begins when the process does, and holds no database. The image cache is there in both.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

from tuner.config.study import StudySpec
from tuner.data import scenes
from tuner.studies.opening import create_or_open
from tuner.trainers.contract import EpochResult, StopRequested, TrainingTask
from tuner.workers.devices import plan_slots
from tuner.workers.worker import run_worker

TIMES = "times.json"


def train(task: TrainingTask, stop_requested: StopRequested) -> Iterator[EpochResult]:
    """The built-in trainer, with notes of when its process started, when it made its first step and when it ended."""
    from tuner.trainers.detection import step
    from tuner.trainers.detection.train import train as built_in

    first: list[float] = []
    real = step.TrainStep.__call__

    def noted(self: Any, batch: Any) -> Any:
        if not first:
            first.append(time.time())
        return real(self, batch)

    step.TrainStep.__call__ = noted  # type: ignore[method-assign]
    try:
        yield from built_in(task, stop_requested)
    finally:
        step.TrainStep.__call__ = real  # type: ignore[method-assign]
        born = psutil.Process().create_time()
        (task.workdir / TIMES).write_text(json.dumps({"born": born, "first": first[0], "ended": time.time()}))


def main() -> None:
    """Run the benchmark and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=3, help="one after the other")
    parser.add_argument("--trials", type=int, default=5, help="of each worker")
    parser.add_argument("--image-size", type=int, default=320)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    fresh, warm = [], []
    with tempfile.TemporaryDirectory() as scratch:
        data = scenes.generate(Path(scratch) / "data", train=16, val=8, test=2)
        for worker in range(arguments.workers + 1):
            spec = StudySpec.model_validate(
                {"name": f"warm-{worker}", "data": data, "storage": f"sqlite:///{scratch}/tuner.db",
                 "defaults": {"epochs": 1, "image_size": arguments.image_size}, "pruner": {"name": "none"},
                 "budget": {"trials": arguments.trials}}
            )  # fmt: skip
            study = create_or_open(spec)
            run_worker(study, slots=plan_slots(arguments.device, 1), trainer=f"{__spec__.name}:train")
            folder = study.folder / "trials"
            times = [json.loads((folder / str(n) / TIMES).read_text()) for n in range(arguments.trials)]
            study.close()
            if worker == 0:
                continue  # it made the image cache
            fresh.append(times[0]["first"] - times[0]["born"])
            warm += [later["first"] - earlier["ended"] for earlier, later in pairwise(times)]
    one, other = statistics.median(warm), statistics.median(fresh)
    print(f"fresh process to first step  {other:.2f} s (median of {len(fresh)})")
    print(f"end of a trial to first step {one:.2f} s (median of {len(warm)}; largest {max(warm):.2f} s)")
    print(f"ratio                        1 / {other / one:.1f}")


if __name__ == "__main__":
    main()
