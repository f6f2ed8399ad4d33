"""What evaluating 100 images costs, against one epoch of `dense-tiny`.

    python -m tests.benchmarks.bench_evaluation_share [FOLDER] [--train 200] [--images 100] [--epochs 3] [--kinds …]

FOLDER holds images/ and annotations/{train,val}.json; without it, scenes of 320 x 256 pixels are generated. Printed
are the seconds of training, of the network's pass over the validation images, and of all that follows it after each
epoch (suppression, matching, COCO metrics, thresholds); and the sweep after the last one. CPU time, for the machine may
be shared.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

from tuner.config.study import DataSpec
from tuner.config.trial import WHOLE, NmsKind, TrialConfig
from tuner.data import scenes
from tuner.data.coco import load_dataset
from tuner.data.letterbox import canvas_for
from tuner.evaluation.coco import CocoEvaluator
from tuner.evaluation.judge import judge
from tuner.models.anchors import resolve_anchors
from tuner.models.build import build_detector
from tuner.postprocess.swept import Swept
from tuner.trainers.contract import CHECKPOINT, TrainingTask
from tuner.trainers.detection import checkpoint
from tuner.trainers.detection.precision import inference_precision
from tuner.trainers.detection.tiling import predict_tiles
from tuner.trainers.detection.train import train


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--train", type=int, default=200, help="generated training images")
    parser.add_argument("--images", type=int, default=100, help="generated validation images")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--kinds", nargs="*", default=["diou", "soft-gaussian"], help="further NMS kinds to sweep")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        run(options, Path(scratch))


def run(options: argparse.Namespace, scratch: Path) -> None:
    """Train for some epochs, then judge the last one's predictions again and again."""
    if options.folder is None:
        data = scenes.generate(
            scratch / "scenes", train=options.train, val=options.images, test=8, size=(320, 256), seed=0
        )
    else:
        names = {"train": "annotations/train.json", "val": "annotations/val.json"}
        data = DataSpec(root=options.folder.absolute(), **names, on_bad_boxes="repair")
    dataset = load_dataset(data)
    config = resolve_anchors(TrialConfig(epochs=options.epochs + 1), dataset.train)
    task = TrainingTask(config, 0, data, "cpu", 1, scratch / "trial", scratch / "cache")
    trainer = train(task, lambda: False)
    next(trainer)  # warms up: cache, allocator, kernels
    costs = []
    for _ in range(options.epochs):
        result = next(trainer)
        share = result.eval_seconds / (result.train_seconds + result.eval_seconds)
        costs.append((result.cpu_seconds * (1 - share), result.cpu_seconds * share))
    trainer.close()
    state = checkpoint.load(task.workdir / CHECKPOINT)
    assert state is not None
    detector = build_detector(config, len(dataset.train.classes), state["model"])
    canvas = canvas_for(dataset.train.sizes, config.image_size)
    raw = predict_tiles(detector, dataset.val, WHOLE, canvas, inference_precision(config, torch.device("cpu")), 16)
    evaluator = CocoEvaluator(dataset.val)

    def judged(swept: Swept) -> float:
        return min(seconds(lambda: judge(evaluator, [(WHOLE, raw)], config, swept)) for _ in range(3))

    epoch = min(training for training, _ in costs)
    print(f"{len(dataset.train)} training images, {len(dataset.val)} validation images, {len(raw.scores)} predictions")
    print(f"one epoch of training:                    {epoch:7.3f} s")
    each = judged(Swept().within_training())
    print(f"metrics and thresholds, every epoch:      {each:7.3f} s   {each / epoch:6.1%} of it")
    whole = min(evaluating for _, evaluating in costs[:-1] or costs)
    print(f"the same with the network's pass:         {whole:7.3f} s   {whole / epoch:6.1%}")
    last = judged(Swept())
    print(f"sweep of 11 NMS IoU values, last epoch:   {last:7.3f} s   {last / epoch:6.1%}")
    for kind in options.kinds:
        chosen: NmsKind = kind
        took = judged(Swept(nms=(chosen,)))
        print(f"{f'sweep of {kind}, last epoch:':41} {took:7.3f} s   {took / epoch:6.1%}")


def seconds(work: object) -> float:
    """CPU time of a call."""
    start = time.process_time()
    work()  # type: ignore[operator]
    return time.process_time() - start


if __name__ == "__main__":
    main()
