"""COCO metrics: pycocotools against `CocoEvaluator`, the same detections, side by side in one process.

Run `python -m tests.benchmarks.bench_evaluation [--small]`. Prints seconds of wall and of CPU (the machine may be
shared; the ratio is of CPU time) and the largest difference between any two numbers. faster-coco-eval and hotcoco are
measured too where they are installed.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import time

import numpy as np

from tests.evaluation.cases import random_case
from tuner.evaluation import oracle
from tuner.evaluation.coco import CocoEvaluator


def timed(function):
    wall, cpu = time.perf_counter(), time.process_time()
    result = function()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def numbers(metrics):
    values = metrics.model_dump(exclude={"operating_point", "criteria", "cost"})
    values |= values.pop("class_map")
    return np.array([np.nan if v is None else v for v in values.values()], dtype=np.float64)


def with_engine(name, split, detections):
    """AP of another engine through its pycocotools-like classes."""
    module = importlib.import_module(name)
    coco_class, eval_class = module.COCO, getattr(module, "COCOeval_faster", None) or module.COCOeval
    truth = oracle._ground_truth(split).dataset
    found = oracle._results(split, detections).dataset["annotations"]
    results = [{k: a[k] for k in ("image_id", "category_id", "bbox", "score")} for a in found]

    def run():
        with contextlib.redirect_stdout(io.StringIO()):
            coco = coco_class(truth)
            evaluation = eval_class(coco, coco.loadRes(results), "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return evaluation.stats[0]

    return timed(run)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--small", action="store_true", help="500 images instead of 5,000")
    parser.add_argument("--others", action="store_true", help="also faster-coco-eval and hotcoco")
    options = parser.parse_args()
    scale = 10 if options.small else 1
    images, boxes, count = 5000 // scale, 36_000 // scale, 500_000 // scale
    split, detections = random_case(
        np.random.default_rng(0), images=images, classes=80, boxes=boxes, detections=count, crowds=0.01, odd_areas=0.5
    )
    print(f"{images} images, 80 classes, {boxes} boxes, {count} detections")
    evaluator, wall, cpu = timed(lambda: CocoEvaluator(split))
    print(f"arranging the ground truth, once:  wall {wall:7.3f} s  CPU {cpu:7.3f} s")
    ours, wall, cpu = min((timed(lambda: evaluator.evaluate(detections)) for _ in range(3)), key=lambda r: r[2])
    print(f"CocoEvaluator.evaluate:            wall {wall:7.3f} s  CPU {cpu:7.3f} s  (best of 3)")
    theirs, their_wall, their_cpu = timed(lambda: oracle.evaluate(split, detections))
    print(f"pycocotools:                       wall {their_wall:7.3f} s  CPU {their_cpu:7.3f} s")
    print(f"ratio:                             wall {their_wall / wall:7.1f} x  CPU {their_cpu / cpu:7.1f} x")
    a, b = numbers(ours), numbers(theirs)
    assert (np.isnan(a) == np.isnan(b)).all()
    print(f"mAP {ours.map:.6f}, largest difference of {len(a)} numbers {np.nanmax(np.abs(a - b)):.1e}")
    for name in ("faster_coco_eval", "hotcoco") if options.others else ():
        try:
            value, other_wall, other_cpu = with_engine(name, split, detections)
        except ImportError:
            print(f"{name}: not installed")
            continue
        print(f"{name + ':':35}wall {other_wall:7.3f} s  CPU {other_cpu:7.3f} s  mAP {value:.6f}")


if __name__ == "__main__":
    main()
