"""What an image costs a detector of ours, measured on images of a split."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from tuner.config.trial import TrialConfig
from tuner.data.batches import evaluation_batches
from tuner.data.cache import CachedImages
from tuner.evaluation import latency
from tuner.evaluation.cost import ImageCost
from tuner.models.detector import Candidates, Detector
from tuner.postprocess.nms import suppress
from tuner.postprocess.operating_point import NmsKind
from tuner.trainers.detection.precision import Precision
from tuner.trainers.detection.predict import to_original


def measure_cost(
    detector: Detector,
    cached: CachedImages,
    sizes: NDArray[np.int32],
    config: TrialConfig,
    precision: Precision,
    nms_iou: float,
    kind: NmsKind = "greedy",
) -> ImageCost:
    """Measure a detector as it stands, on the first images of a split; takes some seconds at most.

    Args:
        detector: On `precision.device`; left in eval mode.
        cached: Letterboxed images, at least one.
        sizes: (N, 2) width and height of the original images in pixels.
        config: Gives batch size and `max_detections`.
        precision: Arithmetic.
        nms_iou: Of the operating point.
        kind: Of the operating point.
    """
    detector.eval()
    device = precision.device
    images = next(iter(evaluation_batches(cached, config.batch_size)))
    rows = np.arange(config.batch_size) % len(images)  # a split smaller than a batch is repeated
    images, places, shapes = images[torch.from_numpy(rows)].to(device), cached.placements[rows], sizes[rows]

    def network(batch: torch.Tensor) -> Candidates:
        with precision.autocast():
            return detector.candidates(batch)

    def postprocess(candidates: object) -> object:
        found = cast(Candidates, candidates)
        count = len(found.scores)
        raw = to_original(found, places[:count], shapes[:count])
        return suppress(raw, nms_iou, kind=kind, max_detections=config.max_detections)

    single = images[:1]
    height, width = single.shape[2:]
    return ImageCost(
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        precision=precision.name,
        canvas=(width, height),
        single=latency.time_batch(single, network, postprocess),
        batch=latency.time_batch(images, network, postprocess),
        parameters=latency.parameters(detector),
        multiply_adds=latency.multiply_adds(single, network),
        inference_memory_mb=latency.inference_memory(single, detector, network),
    )
