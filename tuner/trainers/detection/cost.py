"""What an image costs a detector of ours, measured on images of a split."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from tuner.config.alive import SignOfLife, silent
from tuner.config.trial import Tiles, TrialConfig
from tuner.data.batches import evaluation_batches
from tuner.data.cache import CachedImages
from tuner.data.letterbox import Canvas, placements
from tuner.data.split import Split
from tuner.data.tiles import windows_of
from tuner.evaluation import latency
from tuner.evaluation.cost import ImageCost
from tuner.models.detector import Candidates, Detector
from tuner.postprocess.nms import suppress
from tuner.postprocess.operating_point import Merging
from tuner.trainers.detection.precision import Precision
from tuner.trainers.detection.predict import candidates_of, to_device, to_original
from tuner.trainers.detection.tiling import batches_of_windows, merge_windows, most_rows


def measure_cost(
    detector: Detector,
    cached: CachedImages,
    split: Split,
    config: TrialConfig,
    precision: Precision,
    merging: Merging,
    at_once: int,
    alive: SignOfLife = silent,
) -> ImageCost:
    """Measure a detector as it stands, on the first images of a split; takes some seconds at most.

    With tiles an image is itself a batch of windows, which the network sees `at_once` at a time: the times of a single
    image are those of the one with the median number of windows, and there is no other batch.

    Args:
        detector: On `precision.device`; left in eval mode.
        cached: Letterboxed images of the split, at least one; their canvas is the network's.
        split: Images of any sizes.
        config: Gives `max_detections`.
        precision: Arithmetic.
        merging: Of the operating point.
        at_once: Images in the batch that is timed, or windows that go through the network together.
        alive: Called for each pass; an image may have a hundred windows.
    """
    detector.eval()
    canvas = cached.canvas
    if merging.tiles.size:
        images, windows = _typical_windows(split, merging.tiles, canvas)
        shapes = (windows[:, 2:] - windows[:, :2]).astype(np.int32)
        places = placements(shapes, canvas)
    else:
        images = next(iter(evaluation_batches(cached, at_once)))
        rows = np.arange(at_once) % len(images)  # a split smaller than a batch is repeated
        images, places, shapes = images[torch.from_numpy(rows)], cached.placements[rows], split.sizes[rows]
        windows = None
    images = to_device(images, precision.device)

    def network(pixels: torch.Tensor) -> list[Candidates]:
        alive()
        return [candidates_of(detector, part, precision) for part in torch.split(pixels, at_once)]

    def postprocess(candidates: object) -> object:
        raw = to_original(cast(list[Candidates], candidates), places, shapes)
        if windows is not None:
            raw = merge_windows([raw], windows, np.array([len(windows)]), most_rows(detector))
        return suppress(raw, merging.nms_iou, kind=merging.nms, max_detections=config.max_detections)

    single = images if windows is not None else images[:1]
    alone = latency.time_batch(single, network, postprocess, count=1)
    return ImageCost(
        device=torch.cuda.get_device_name(precision.device) if precision.device.type == "cuda" else "cpu",
        precision=precision.name,
        canvas=canvas,
        single=alone,
        batch=alone if windows is not None else latency.time_batch(images, network, postprocess, count=len(images)),
        parameters=latency.parameters(detector),
        multiply_adds=latency.multiply_adds(single[:1], network) * len(single),
        inference_memory_mb=latency.inference_memory(single, detector, network),
    )


def _typical_windows(split: Split, tiles: Tiles, canvas: Canvas) -> tuple[torch.Tensor, NDArray[np.int64]]:
    """The windows on the image with the median number of them: (W, 3, H, W) uint8, and where they lie, (W, 4) xyxy."""
    each = [windows_of(width, height, tiles) for width, height in split.sizes.tolist()]
    typical = int(np.argsort([len(windows) for windows in each], kind="stable")[len(each) // 2])
    here = slice(typical, typical + 1)
    one = replace(split, file_names=split.file_names[here], sizes=split.sizes[here])
    pixels = torch.cat(list(batches_of_windows(one, [each[typical]], canvas, len(each[typical]))))
    return pixels, each[typical]
