"""Each kind of NMS against torchvision's greedy NMS called image by image, at 1,000 boxes per image.

Run `python -m tests.benchmarks.bench_nms [--images 64] [--classes 3] [--device cpu] [--threads 1]`. All of them take
and give float64 on the device; at most 100 detections are kept. The best of three runs counts.
"""

from __future__ import annotations

import argparse
import time
from itertools import pairwise

import numpy as np
import torch
from torchvision.ops import batched_nms

from tests.evaluation.cases import random_case
from tuner.models.predictions import RawPredictions
from tuner.postprocess.nms_kinds import KINDS


def seconds(function, device: str) -> float:
    runs = []
    for _ in range(3):
        begin = time.perf_counter()
        function()
        if device != "cpu":
            torch.cuda.synchronize()
        runs.append(time.perf_counter() - begin)
    return min(runs)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--classes", type=int, default=3)
    parser.add_argument("--per-image", type=int, default=1000, help="boxes of each image")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    _, raw = random_case(
        np.random.default_rng(0),
        images=options.images,
        classes=options.classes,
        boxes=options.images * 13,
        detections=options.images * options.per_image,
        kind=RawPredictions,
    )
    boxes, scores, labels, offsets = (
        torch.from_numpy(a).to(options.device) for a in (raw.boxes, raw.scores, raw.labels, raw.offsets)
    )
    bounds = offsets.tolist()

    def torchvision():
        for a, b in pairwise(bounds):
            batched_nms(boxes[a:b].double(), scores[a:b].double(), labels[a:b], 0.5)[:100]

    print(f"{options.images} images of about {options.per_image} boxes, {options.classes} classes, {options.device}")
    reference = seconds(torchvision, options.device)
    print(f"{'torchvision':16} {reference / options.images * 1e3:8.3f} ms an image")
    for kind, function in KINDS.items():
        took = seconds(lambda f=function: f(boxes, scores, labels, offsets, 0.5, 100), options.device)
        print(f"{kind:16} {took / options.images * 1e3:8.3f} ms an image   ratio {took / reference:6.2f}")


if __name__ == "__main__":
    main()
