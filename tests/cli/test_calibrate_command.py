"""`tuner calibrate` on results files and on a trained model."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
import torch
import yaml
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tests.evaluation.cases import random_case
from tests.production import make_production
from tuner.cli.main import main
from tuner.config.trial import TrialConfig
from tuner.data.coco import load_dataset
from tuner.data.letterbox import canvas_for
from tuner.data.scenes import generate
from tuner.export.model import ModelConfig, save_model
from tuner.models.anchors import resolve_anchors
from tuner.models.build import build_detector
from tuner.models.predictions import RawPredictions
from tuner.postprocess.nms import suppress
from tuner.postprocess.operating_point import OperatingPoint


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


@pytest.fixture
def tuner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tuner", "calibrate", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


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


def _replace(key, value):
    def change(rows):
        rows[3][key] = value
        return rows

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_replace("image_id", 999), "1 of 2000 results name 1 image ids that the ground truth does not have: 999"),
        (_replace("image_id", [1]), "image ids"),
        (_replace("image_id", "7"), "Write ids as whole numbers"),
        (_replace("image_id", "picture 7"), "the id that the ground truth gives to the image of that file"),
        (_replace("category_id", 1), "category ids"),
        (_replace("score", float("nan")), "1 of 2000 results have NaN or infinite boxes or scores, first number 4"),
        (_replace("score", 1.5), "a score outside 0 … 1"),
        (_replace("score", "high"), "result number 4 has score 'high'"),
        (_replace("bbox", [1, 2, 3]), "result number 4 has bbox [1, 2, 3]"),
        (_replace("bbox", [1, 2, -3, 4]), "a negative width or height"),
        (_replace("bbox", [1, 2, 1e39, 4]), "coordinates beyond a million pixels"),
        (_replace("score", "0.5"), "result number 4 has score '0.5'"),
        (_replace("bbox", 7), "result number 4 has bbox 7"),
        (_replace("score", None), "result number 4 has score None"),
        (_replace("bbox", [1, 2, float("inf"), 4]), "NaN or infinite"),
        (lambda rows: [{k: v for k, v in row.items() if k != "score"} for row in rows], "have no 'score'"),
        (lambda rows: {"images": []}, "not a list of COCO results"),
        (lambda rows: [1], "not a list of COCO results"),
        (lambda rows: [], "no threshold serves f1: there are no detections"),
        (lambda rows: [r | {"image_id": str(r["image_id"])} for r in rows], "Write ids as whole numbers"),
        (lambda rows: [r | {"category_id": 0} for r in rows], "Ids that count classes from 0"),
        (lambda rows: [r | {"score": 100 * r["score"]} for r in rows], "Divide by 100 if they are percentages"),
        (_replace("score", -7.0), "Convert logits"),
    ],
)
def test_bad_results_are_refused_by_name(tuner, tmp_path: Path, change, words: str) -> None:
    truth, results = write_case(tmp_path)
    results.write_text(json.dumps(change(json.loads(results.read_text()))))
    code, _, err = tuner(results, "--data", truth)
    assert code == 1
    assert words in err
    assert "Traceback" not in err
    assert not (tmp_path / "operating-point.yaml").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x, y, w, h: [x, y, x + w, y + h], "if `bbox` were [x1, y1, x2, y2]"),
        (lambda x, y, w, h: [3 * x, 3 * y, 3 * w, 3 * h], "in pixels of the original image, not of a resized one?"),
        (
            lambda x, y, w, h: [x / 1400, y / 1400, w / 1400, h / 1400],
            "multiply fractions by the image's width and height",
        ),
        (lambda x, y, w, h: [x / 2, y / 2, w / 2, h / 2], "of the boxes are found at any threshold"),
    ],
)
def test_coordinates_of_another_kind_are_noticed(tuner, tmp_path: Path, change, words: str) -> None:
    truth, results = write_case(tmp_path)
    rows = [row for row in json.loads(results.read_text()) if min(row["bbox"][:2]) > 0]
    side = int(max(max(row["bbox"][0] + row["bbox"][2], row["bbox"][1] + row["bbox"][3]) for row in rows)) + 1
    annotated = json.loads(truth.read_text())
    for image in annotated["images"]:
        image |= {"width": side, "height": side}
    truth.write_text(json.dumps(annotated))
    results.write_text(json.dumps(rows))
    assert words not in tuner(results, "--data", truth)[1]
    results.write_text(json.dumps([row | {"bbox": change(*row["bbox"])} for row in rows]))
    assert words in tuner(results, "--data", truth, "--force")[1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x, y, w, h: [x, y, x + w, y + h], "[x1, y1, x2, y2] in pixels"),
        (lambda x, y, w, h: [y, x, y + h, x + w], "[y1, x1, y2, x2] in pixels"),
        (lambda x, y, w, h: [y, x, h, w], "[y, x, height, width] in pixels"),
        (lambda x, y, w, h: [x + w / 2, y + h / 2, w, h], "[centre x, centre y, width, height] in pixels"),
        (lambda x, y, w, h: [x / 1400, y / 700, w / 1400, h / 700], "[x, y, width, height] as fractions"),
        (
            lambda x, y, w, h: [(x + w / 2) / 1400, (y + h / 2) / 700, w / 1400, h / 700],
            "[centre x, centre y, width, height] as fractions",
        ),
    ],
)
def test_the_meaning_that_coordinates_seem_to_have_is_named(tuner, tmp_path: Path, change, words: str) -> None:
    """Where they lie within the image all the same, and so only the ground truth can tell."""
    truth, results = write_case(tmp_path)
    annotated = json.loads(truth.read_text())
    for image in annotated["images"]:
        image["height"] = 700
    truth.write_text(json.dumps(annotated))
    rows = [row | {"bbox": change(*row["bbox"])} for row in json.loads(results.read_text())]
    results.write_text(json.dumps([row for row in rows if min(row["bbox"][2:]) >= 0]))
    assert f"would be found if `bbox` were {words}" in tuner(results, "--data", truth)[1]


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
    assert "too few images to judge f1" in out
    assert "class never has no boxes: it takes the common threshold" in out


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


def test_results_that_do_not_fit_into_memory_are_refused(
    tuner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth, results = write_case(tmp_path)
    free = psutil.virtual_memory()._replace(available=7 * results.stat().st_size)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    code, _, err = tuner(results, "--data", truth)
    assert code == 1
    assert "of memory, of which 0.0 GiB are free" in err


def test_wrong_files_and_options_are_refused(tuner, tmp_path: Path) -> None:
    truth, results = write_case(tmp_path)
    assert "does not exist" in tuner(tmp_path / "none.json", "--data", truth)[2]
    assert "not valid JSON" in tuner(_text(tmp_path / "cut.json", "[{"), "--data", truth)[2]
    assert "does not exist" in tuner(results, "--data", tmp_path / "none.json")[2]
    assert "'images' is missing" in tuner(results, "--data", _text(tmp_path / "empty.json", "{}"))[2]
    assert "a list at the top" in tuner(results, "--data", results)[2]
    assert "Did you mean 'soft-linear'" in tuner(results, "--data", truth, "--nms", "soft-linea")[2]
    assert "operating criterion 'f3' is not known" in tuner(results, "--data", truth, "--criterion", "f3")[2]
    (tmp_path / "images").mkdir()
    assert "is not a trained model" in tuner(tmp_path, "--data", truth)[2]


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


def _text(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_what_is_no_source_is_said_before_the_ground_truth_is_asked_for(tuner, tmp_path: Path) -> None:
    (tmp_path / "best.yaml").write_text("config: {}\n")
    code, _, err = tuner("best.yaml")
    assert code == 1
    assert "best.yaml is no model and holds no detections" in err
    assert "tuner train best.yaml -o model/" in err
    _, results = write_case(tmp_path)
    code, _, err = tuner(results)
    assert code == 1
    assert "Name a COCO JSON, or a study file, with --data." in err


@pytest.mark.parametrize("output", [".", "..", "/", "folder"])
def test_a_folder_cannot_be_the_operating_point(tuner, tmp_path: Path, output: str) -> None:
    truth, results = write_case(tmp_path)
    (tmp_path / "folder").mkdir()
    code, _, err = tuner(results, "--data", truth, "-o", output, "--force")
    assert code == 1
    assert f"-o: {output} is a folder, not a file" in err


def test_a_folder_that_is_not_there_is_named_before_anything_is_computed(tuner, tmp_path: Path) -> None:
    truth, results = write_case(tmp_path)
    code, out, err = tuner(results, "--data", truth, "-o", "nowhere/op.yaml")
    assert (code, out) == (1, "")
    assert "error: -o: there is no folder nowhere" in err


@pytest.mark.parametrize("name", ["op.png", "op.PNG"])
def test_the_picture_does_not_take_the_place_of_the_point(tuner, tmp_path: Path, name: str) -> None:
    truth, results = write_case(tmp_path)
    code, _, err = tuner(results, "--data", truth, "-o", name)
    assert code == 1
    assert "such as op.yaml" in err
    assert not (tmp_path / name).exists()


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


def test_a_folder_as_ground_truth_is_told_from_a_file_that_is_not_there(tuner, tmp_path: Path) -> None:
    _, results = write_case(tmp_path)
    for more in ((), ("--images", tmp_path)):
        assert f"--data: {tmp_path} is a folder; expected a COCO JSON" in tuner(results, "--data", tmp_path, *more)[2]


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
