"""The same metrics by pycocotools, slowly: for `--evaluator pycocotools`, and what ours is tested against."""

from __future__ import annotations

import contextlib
import io
from typing import Any

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tuner.data.split import Split
from tuner.evaluation.coco import AREA_RANGES, MAX_DETECTIONS, summarise
from tuner.evaluation.metrics import Metrics
from tuner.models.predictions import Detections


def evaluate(split: Split, detections: Detections) -> Metrics:
    """Compute what `CocoEvaluator.evaluate` computes, with pycocotools.

    Annotations are numbered anew from 1, because pycocotools takes a match with an annotation 0 for none.
    """
    detections.check(len(split), len(split.classes))
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(_ground_truth(split), _results(split, detections), "bbox")
        evaluation.params.maxDets = [1, 10, MAX_DETECTIONS]
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
    return _coco(
        split,
        image_id=split.image_ids[split.image_index].tolist(),
        category_id=[split.category_ids[label] for label in split.labels],
        bbox=split.boxes.tolist(),
        area=split.areas.tolist(),
        iscrowd=split.crowd.astype(int).tolist(),
    )


def _results(split: Split, detections: Detections) -> COCO:
    """What `COCO.loadRes` makes of results; it refuses an empty list."""
    boxes = detections.xywh(slice(None))
    return _coco(
        split,
        image_id=split.image_ids[detections.image_index].tolist(),
        category_id=[split.category_ids[label] for label in detections.labels],
        bbox=boxes.tolist(),
        area=boxes[:, 2:].prod(axis=1).tolist(),
        iscrowd=[0] * len(boxes),
        score=detections.scores.tolist(),
    )


def _coco(split: Split, **columns: list[Any]) -> COCO:
    """A split as pycocotools holds it, with annotations from lists of equal lengths, one for each key."""
    rows = zip(*columns.values(), strict=True)
    coco = COCO()
    coco.dataset = {
        "images": [{"id": image} for image in split.image_ids.tolist()],
        "categories": [{"id": i, "name": n} for i, n in zip(split.category_ids, split.classes, strict=True)],
        "annotations": [dict(zip(columns, row, strict=True)) | {"id": i} for i, row in enumerate(rows, start=1)],
    }
    coco.createIndex()
    return coco
