"""`tuner calibrate` on results files and on a trained model."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tests.cli.calibrate_case import write_case
from tests.production import make_production
from tuner.config.trial import TrialConfig
from tuner.data.coco import load_dataset
from tuner.data.letterbox import canvas_for
from tuner.data.scenes import generate
from tuner.export.model import ModelConfig, save_model
from tuner.models.anchors import resolve_anchors
from tuner.models.build import build_detector
from tuner.postprocess.operating_point import OperatingPoint


def test_raw_results(tuner, tmp_path: Path) -> None:
    truth, results = write_case(tmp_path)
    code, out, err = tuner(results, "--data", truth, "--nms", "greedy", "--nms", "soft-gaussian", "--per-class")
    assert code == 0, err
    for words in ("f1", "recall@precision=0.9", "precision@recall=0.9", "count", "best mAP"):
        assert words in out
    assert "suppressed already" not in out
    point = OperatingPoint.model_validate(yaml.safe_load((tmp_path / "operating-point.yaml").read_text()))
    assert point.criterion == "f1"
    assert point.f1_spread is not None
    assert (tmp_path / "operating-point.png").stat().st_size > 1000
    code, _, err = tuner(results, "--data", truth)
    assert code == 1
    assert "exists" in err
    code, out, _ = tuner(results, "--data", truth, "--force", "--json", "--criterion", "count")
    assert code == 0
    told = json.loads(out)
    assert told["points"]["count"]["criterion"] == "count"
    assert len(told["map"]) == 22  # eleven for greedy NMS, eleven with voting
    assert yaml.safe_load((tmp_path / "operating-point.yaml").read_text())["criterion"] == "count"


def test_suppressed_results_say_what_they_limit(tuner, tmp_path: Path) -> None:
    truth, results = write_case(tmp_path, suppressed=0.6)
    code, out, err = tuner(results, "--data", truth)
    assert code == 0, err
    assert "no two of a class overlap by more than 0.60" in out
    assert "best mAP" in out
    assert "no NMS" in out


def test_scores_keep_their_digits(tuner, tmp_path: Path) -> None:
    """Scores that float32 could not tell apart order the detections, and the threshold is one that the file holds."""
    truth, results = write_case(tmp_path, suppressed=0.6)
    rows = json.loads(results.read_text())
    rank = np.argsort(np.argsort([row["score"] for row in rows], kind="stable"))
    for row, place in zip(rows, rank.tolist(), strict=True):
        row["score"] = round(0.7 + 1e-10 * place, 10)
    results.write_text(json.dumps(rows))
    code, out, err = tuner(results, "--data", truth, "--nms", "none", "--json")
    assert code == 0, err
    content = json.loads(truth.read_text())
    for box in content["annotations"]:  # which pycocotools needs
        box |= {"area": box["bbox"][2] * box["bbox"][3], "iscrowd": 0}
    reference = COCO()
    reference.dataset = content
    reference.createIndex()
    evaluation = COCOeval(reference, reference.loadRes(str(results)), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, 2]
    told = json.loads(out)
    assert told["map"][0]["map"] == pytest.approx(precision[precision > -1].mean(), abs=1e-9)
    assert {point["confidence"] for point in told["points"].values() if point} <= {row["score"] for row in rows}


def test_one_image_is_told_to_be_too_few(tuner, tmp_path: Path) -> None:
    truth, results = write_case(tmp_path)
    annotated, rows = json.loads(truth.read_text()), json.loads(results.read_text())
    only = annotated["images"][0]["id"]
    annotated["images"] = annotated["images"][:1]
    annotated["annotations"] = [a for a in annotated["annotations"] if a["image_id"] == only]
    annotated["categories"].append({"id": 99, "name": "never"})
    truth.write_text(json.dumps(annotated))
    results.write_text(json.dumps([row for row in rows if row["image_id"] == only]))
    code, out, err = tuner(results, "--data", truth, "--per-class")
    assert code == 0, err
    assert "cannot be judged on other images than those that chose the point (too few images" in out
    assert "classes without boxes take the common threshold: never" in out


def test_a_limit_that_is_never_reached_leaves_the_other_points(tuner, tmp_path: Path) -> None:
    truth, results = write_case(tmp_path)
    code, out, err = tuner(results, "--data", truth, "--criterion", "recall@precision=1")
    assert code == 1
    assert "no threshold serves recall@precision=1" in err
    assert any(line.startswith("f1 ") and "greedy" in line for line in out.splitlines())
    assert not (tmp_path / "operating-point.yaml").exists()


def test_one_score_for_all_is_no_score(tuner, tmp_path: Path) -> None:
    truth, results = write_case(tmp_path)
    results.write_text(json.dumps([row | {"score": 1} for row in json.loads(results.read_text())]))
    code, out, _ = tuner(results, "--data", truth)
    assert code == 0
    assert "All scores are 1.000" in out
    assert "No score is below" not in out


def test_a_class_without_detections_is_named(tuner, tmp_path: Path) -> None:
    truth, results = write_case(tmp_path)
    rows = json.loads(results.read_text())
    first = json.loads(truth.read_text())["categories"][0]
    results.write_text(json.dumps([row for row in rows if row["category_id"] != first["id"]]))
    code, out, _ = tuner(results, "--data", truth)
    assert code == 0
    assert f"Nothing is detected of {first['name']} (" in out


def test_ground_truth_without_boxes_defines_nothing(tuner, tmp_path: Path) -> None:
    truth, results = write_case(tmp_path)
    truth.write_text(json.dumps(json.loads(truth.read_text()) | {"annotations": []}))
    code, _, err = tuner(results, "--data", truth)
    assert code == 1
    assert "truth.json: no boxes" in err


def test_a_model_folder(tuner, tmp_path: Path) -> None:
    data = generate(tmp_path / "data", train=4, val=3, test=2, size=(96, 72), seed=3)
    dataset = load_dataset(data)
    config = resolve_anchors(TrialConfig(image_size=96), dataset.train)
    point = OperatingPoint(nms_iou=0.5, confidence=0.5, precision=0.5, recall=0.5, f1=0.5)
    torch.manual_seed(0)
    classes = dataset.train.classes
    canvas = canvas_for(dataset.train.sizes, config.image_size)
    info = ModelConfig(
        classes=classes,
        category_ids=dataset.train.category_ids,
        canvas=(canvas.width, canvas.height),
        config=config,
        operating_point=point,
        trained_on="train",
        seed=0,
        software={},
        production=make_production(config, point, data),
    )
    save_model(tmp_path / "model", build_detector(config, len(classes)).state_dict(), info)
    code, out, err = tuner(
        tmp_path / "model", "--data", data.path(data.val), "--images", data.path(data.images), "--device", "cpu",
        "--criterion", "count", "--json",
    )  # fmt: skip
    assert code == 0, err
    told = json.loads(out)["points"]
    assert set(told) == {"f1", "recall@precision=0.9", "precision@recall=0.9", "count"}
    assert told["count"]["count_error"] >= 0


@pytest.mark.parametrize("place", ["images", "../images", "."])
def test_sizes_are_read_from_the_images_beside_the_file_or_its_folder(
    tuner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    folder = tmp_path / "annotations"
    folder.mkdir()
    truth, results = write_case(folder)
    content = json.loads(truth.read_text())
    (folder / place).mkdir(exist_ok=True)
    for image in content["images"]:
        del image["width"], image["height"]
        cv2.imwrite(str(folder / place / image["file_name"]), np.zeros((1400, 1400), np.uint8))
    truth.write_text(json.dumps(content))
    assert tuner(results, "--data", truth)[0] == 0
    monkeypatch.chdir(folder)
    assert tuner(results.name, "--data", truth.name)[0] == 0


def test_as_many_detections_count_as_an_image_has(tuner, tmp_path: Path) -> None:
    """A perfect detector of images with more objects than the 100 that COCO keeps."""
    boxes = [[20 * (i % 20), 20 * (i // 20), 12, 12] for i in range(250)]
    truth = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 400, "height": 300} for i in range(6)],
        "categories": [{"id": 1, "name": "cell"}],
        "annotations": [
            {"id": 1000 * i + k + 1, "image_id": i, "category_id": 1, "bbox": box}
            for i in range(6)
            for k, box in enumerate(boxes)
        ],
    }
    results = [
        {"image_id": row["image_id"], "category_id": 1, "bbox": row["bbox"], "score": 0.9 - row["id"] % 1000 * 1e-4}
        for row in truth["annotations"]
    ]
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "results.json").write_text(json.dumps(results))
    code, out, err = tuner("results.json", "--data", "truth.json")
    assert code == 0, err
    assert yaml.safe_load((tmp_path / "operating-point.yaml").read_text())["f1"] == 1.0
    assert "hold more objects" not in out
    assert "holds 250 objects of class cell: COCO's mAP looks at the best 100" in out
    _, out, _ = tuner("results.json", "--data", "truth.json", "--max-detections", "100", "--force")
    assert yaml.safe_load((tmp_path / "operating-point.yaml").read_text())["f1"] < 0.6
    assert "6 of 6 images of truth hold more objects than the 100 detections" in out
    assert "raise --max-detections" in out
