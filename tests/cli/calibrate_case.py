"""Ground truth and a file of results, as tests give them to `tuner calibrate`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.evaluation.cases import random_case
from tuner.models.predictions import RawPredictions
from tuner.postprocess.nms import suppress


def write_case(folder: Path, *, suppressed: float | None = None) -> tuple[Path, Path]:
    """Ground truth and results of random predictions."""
    split, raw = random_case(
        np.random.default_rng(4), images=20, classes=2, boxes=120, detections=2000, kind=RawPredictions
    )
    truth = {
        "images": [
            {"id": int(i), "file_name": name, "width": 1400, "height": 1400}
            for i, name in zip(split.image_ids, split.file_names, strict=True)
        ],
        "categories": [{"id": i, "name": n} for i, n in zip(split.category_ids, split.classes, strict=True)],
        "annotations": [
            {
                "id": i + 1,
                "image_id": int(split.image_ids[image]),
                "category_id": split.category_ids[split.labels[i]],
                "bbox": split.boxes[i].tolist(),
            }
            for i, image in enumerate(split.image_index)
        ],
    }
    found = raw if suppressed is None else suppress(raw, suppressed)
    xywh = found.boxes.astype(float)
    xywh[:, 2:] -= xywh[:, :2]
    results = [
        {
            "image_id": int(split.image_ids[image]),
            "category_id": split.category_ids[found.labels[i]],
            "bbox": xywh[i].tolist(),
            "score": float(found.scores[i]),
        }
        for i, image in enumerate(found.image_index)
    ]
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "results.json").write_text(json.dumps(results))
    return folder / "truth.json", folder / "results.json"
