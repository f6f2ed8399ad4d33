"""The threshold sweep: 20 NMS IoU values x 100 confidence thresholds, against suppressing and matching anew for each.

Run `python -m tests.benchmarks.bench_sweep [--images 100] [--per-image 300]`. Both use the same functions (`suppress`,
`TruthIndex.match`), so the ratio is what the theorem saves; results are compared pair by pair. Thresholds are the
percentiles of the scores, so that doing it anew, too, has ever fewer boxes to look at. The ratio is of CPU time, for
the machine may be shared.
"""

from __future__ import annotations

import argparse
import gc
import resource
import time

import numpy as np

from tests.evaluation.cases import random_case
from tuner.models.predictions import RawPredictions
from tuner.postprocess.curve import Hits
from tuner.postprocess.matching import MATCH_IOU, TruthIndex
from tuner.postprocess.nms import suppress
from tuner.postprocess.sweep import sweep


def timed(function):
    gc.collect()
    gc.disable()  # as timeit does: a collection takes longer than the whole sweep of few images
    wall, cpu = time.perf_counter(), time.process_time()
    result = function()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    gc.enable()
    return result, wall, cpu


def anew(raw, truth, nms_iou, confidence):
    detections = suppress(raw, nms_iou, confidence=confidence)
    return Hits.of(truth.match(detections, (MATCH_IOU,)), truth).curve().counts(0.0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--per-image", type=int, default=300, help="raw predictions of each image")
    options = parser.parse_args()
    split, raw = random_case(
        np.random.default_rng(0),
        images=options.images,
        classes=3,
        boxes=options.images * 13,
        detections=options.images * options.per_image,
        kind=RawPredictions,
    )
    truth = TruthIndex(split)
    nms_ious = np.linspace(0.3, 0.8, 20).tolist()
    confidences = np.percentile(raw.scores.astype(np.float64), np.arange(100), method="lower").tolist()

    def swept():
        curves = [row.hits.curve() for row in sweep(raw, truth, nms_ious)]
        return [[curve.counts(c) for c in confidences] for curve in curves]

    print(
        f"{options.images} images, {len(raw.scores)} raw predictions, {len(nms_ious)} x {len(confidences)} thresholds"
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    once, wall, cpu = timed(swept)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"sweep:        wall {wall:8.2f} s  CPU {cpu:8.2f} s  peak memory grew by {grown / 1024:.0f} MiB")
    each, each_wall, each_cpu = timed(lambda: [[anew(raw, truth, i, c) for c in confidences] for i in nms_ious])
    print(f"anew:         wall {each_wall:8.2f} s  CPU {each_cpu:8.2f} s")
    print(f"ratio:        wall {each_wall / wall:8.1f} x  CPU {each_cpu / cpu:8.1f} x")
    print(f"equal counts: {once == each}")


if __name__ == "__main__":
    main()
