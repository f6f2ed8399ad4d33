"""The same metrics by pycocotools, slowly: what `tuner.evaluation.coco` is tested against."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tuner.data.split import Split
from tuner.evaluation.coco import AREA_RANGES, summarise
from tuner.evaluation.metrics import Metrics
from tuner.models.predictions import Detections


def evaluate(split: Split, detections: Detections, *, max_detections: int = 100) -> Metrics:
    """Compute what `CocoEvaluator.evaluate` computes, with pycocotools.

    Annotations are numbered anew from 1, because pycocotools takes a match with an annotation 0 for none.
    """
    detections.check(len(split), len(split.classes))
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(_ground_truth(split), _results(split, detections), "bbox")
        evaluation.params.maxDets = [1, 10, max_detections]
        evaluation.evaluate()
        evaluation.accumulate()
    precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]
    by_area = {name: recall[:, :, a, 2] for a, name in enumerate(AREA_RANGES)}
    return summarise(
        {name: precision[:, :, :, a, 2] for a, name in enumerate(AREA_RANGES)},
        by_area | {"1": recall[:, :, 0, 0], "10": recall[:, :, 0, 1]},
        split.classes,
    )


def _ground_truth(split: Split) -> COCO:
    boxes = zip(
        split.image_ids[split.image_index].tolist(),
        split.labels.tolist(),
        split.boxes.tolist(),
        split.areas.tolist(),
        split.crowd.tolist(),
        strict=True,
    )
    return _indexed(
        split,
        [
            {
                "id": number,
                "image_id": image,
                "category_id": split.category_ids[label],
                "bbox": box,
                "area": area,
                "iscrowd": int(crowd),
            }
            for number, (image, label, box, area, crowd) in enumerate(boxes, start=1)
        ],
    )


def _results(split: Split, detections: Detections) -> COCO:
    boxes = detections.boxes.astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    columns = zip(
        split.image_ids[detections.image_index].tolist(),
        detections.labels.tolist(),
        boxes.tolist(),
        detections.scores.tolist(),
        strict=True,
    )
    # What `COCO.loadRes` makes of results, which refuses an empty list.
    return _indexed(
        split,
        [
            {
                "id": number,
                "image_id": image,
                "category_id": split.category_ids[label],
                "bbox": box,
                "area": box[2] * box[3],
                "score": score,
                "iscrowd": 0,
            }
            for number, (image, label, box, score) in enumerate(columns, start=1)
        ],
    )


def _indexed(split: Split, annotations: list[dict[str, Any]]) -> COCO:
    coco = COCO()
    coco.dataset = {
        "images": [{"id": image} for image in split.image_ids.tolist()],
        "categories": [{"id": i, "name": n} for i, n in zip(split.category_ids, split.classes, strict=True)],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco
