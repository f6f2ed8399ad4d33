"""Metrics of a results file against pycocotools on the same file, where IoUs lie exactly on thresholds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tests.evaluation.cases import make_split
from tuner.data.split import Split
from tuner.evaluation import oracle
from tuner.evaluation.calibration import calibrate
from tuner.evaluation.coco import CocoEvaluator
from tuner.evaluation.results import read_results
from tuner.postprocess.nms import suppress

IMAGES = 30


def tied_case(decimals: int, path: Path) -> tuple[Split, list[dict[str, Any]]]:
    """Ground truth with so many decimals, and a file of detections that have 0.5 … 1 of its height or width."""
    rng = np.random.default_rng(decimals)
    image = np.repeat(np.arange(IMAGES), 8)
    boxes = np.round(np.column_stack([rng.uniform(0, 900, (len(image), 2)), rng.uniform(5, 120, (len(image), 2))]), 1)
    boxes = np.round(boxes, decimals)
    split = make_split(image, rng.integers(2, size=len(image)), boxes, images=IMAGES, classes=2)
    rows = []
    for i, box in enumerate(split.boxes.tolist()):
        share, side = rng.choice(np.arange(10, 21)) / 20, int(rng.integers(2, 4))
        box[side] = round(box[side] * share, decimals + 2)
        rows.append(
            {
                "image_id": int(split.image_ids[split.image_index[i]]),
                "category_id": split.category_ids[split.labels[i]],
                "bbox": box,
                "score": round(float(rng.uniform(0.05, 1)), 3),
            }
        )
    path.write_text(json.dumps(rows))
    return split, rows


def by_pycocotools(split: Split, results: Path) -> float:
    truth = oracle._ground_truth(split)
    evaluation = COCOeval(truth, COCO.loadRes(truth, str(results)), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, 2]
    return float(precision[precision > -1].mean())


@pytest.mark.parametrize("decimals", [0, 1, 2, 3, 6])
def test_equals_pycocotools_where_ious_tie_with_thresholds(decimals: int, tmp_path: Path) -> None:
    split, _ = tied_case(decimals, tmp_path / "results.json")
    wanted = by_pycocotools(split, tmp_path / "results.json")
    raw = read_results(tmp_path / "results.json", split)
    evaluator = CocoEvaluator(split)
    found = suppress(raw, 1.0, kind="none")
    assert evaluator.evaluate(found).map == pytest.approx(wanted, abs=1e-9)
    assert oracle.evaluate(split, found).map == pytest.approx(wanted, abs=1e-9)
    rows = calibrate(evaluator, raw, kinds=("none", "greedy")).rows
    assert rows[0].score == pytest.approx(wanted, abs=1e-9)
    assert rows[-1].score is not None


def test_digits_stay_with_their_boxes(tmp_path: Path) -> None:
    split, rows = tied_case(3, tmp_path / "results.json")
    raw = read_results(tmp_path / "results.json", split)
    wanted = {tuple(row["bbox"]) for row in rows}
    for kind in ("none", "greedy", "diou", "soft-linear", "greedy-agnostic"):
        found = suppress(raw, 0.7, kind=kind)
        assert {tuple(box) for box in found.xywh(slice(None)).tolist()} <= wanted
        np.testing.assert_allclose(found.xywh(slice(None))[:, :2], found.boxes[:, :2], rtol=1e-6)
    assert {tuple(box) for box in raw.of_image(3).xywh(slice(None)).tolist()} <= wanted
    assert suppress(raw, 0.7, kind="greedy-voting").stated is None
    assert suppress(raw, 0.7, kind="wbf").stated is None
