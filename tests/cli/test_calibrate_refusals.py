"""Files and options that `tuner calibrate` refuses, with what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import psutil
import pytest

from tests.cli.calibrate_case import write_case


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
    assert "20 of 20 image files are missing" in tuner(tmp_path, "--data", truth)[2]
    for image in json.loads(truth.read_text())["images"]:
        (tmp_path / "images" / image["file_name"]).touch()
    assert "is not a trained model" in tuner(tmp_path, "--data", truth)[2]
    kept = tuner(tmp_path, "--data", truth, "--max-detections", "300")[2]
    assert f"Change `max_detections` in the YAML file in {tmp_path}" in kept


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
    assert "error: nowhere: no such folder" in err


@pytest.mark.parametrize("name", ["op.png", "op.PNG"])
def test_the_picture_does_not_take_the_place_of_the_point(tuner, tmp_path: Path, name: str) -> None:
    truth, results = write_case(tmp_path)
    code, _, err = tuner(results, "--data", truth, "-o", name)
    assert code == 1
    assert "such as op.yaml" in err
    assert not (tmp_path / name).exists()


def test_a_folder_as_ground_truth_is_told_from_a_file_that_is_not_there(tuner, tmp_path: Path) -> None:
    _, results = write_case(tmp_path)
    for more in ((), ("--images", tmp_path)):
        assert f"--data: {tmp_path} is a folder; expected a COCO JSON" in tuner(results, "--data", tmp_path, *more)[2]
