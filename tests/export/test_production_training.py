"""From a production config to a trained model, its judgement and its predictions, through the command line."""

from __future__ import annotations

import itertools
import json
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from tests.production import make_production
from tuner.cli.main import main
from tuner.config.errors import ConfigError, DataError, WeightsError
from tuner.config.study import DataSpec
from tuner.config.trial import Tiles, TrialConfig
from tuner.data.coco import load_dataset, load_split
from tuner.data.fingerprint import fingerprint
from tuner.data.images import read_image
from tuner.data.scenes import generate
from tuner.data.tiles import windows_of
from tuner.export.model import load_model
from tuner.export.predicting import CHUNK, coco_json, predict, predict_shown, shown, unlabelled_split
from tuner.export.production import ProductionConfig
from tuner.export.training import make_plan, merge_splits, train_production
from tuner.export.yaml_files import save_production, write_yaml
from tuner.models.anchors import resolve_anchors
from tuner.postprocess.operating_point import OperatingPoint
from tuner.trainers.contract import Interrupted

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSpec:
    return generate(tmp_path_factory.mktemp("scenes"), train=8, val=4, test=4, size=(96, 72), seed=5)


@pytest.fixture(scope="module")
def production(data: DataSpec) -> ProductionConfig:
    dataset = load_dataset(data)
    config = resolve_anchors(TrialConfig(image_size=96, epochs=2, batch_size=4, warmup_epochs=0.5), dataset.train)
    names = dataset.train.classes
    # Low enough that two epochs show something, and not for every class.
    point = OperatingPoint(
        nms_iou=0.5, confidence=0.003, class_confidence={names[0]: 0.9}, precision=0.5, recall=0.5, f1=0.5
    )
    return make_production(config, point, data, fingerprint=fingerprint(data, dataset))


def run(*arguments: object) -> int:
    before = sys.argv
    sys.argv = ["tuner", *map(str, arguments)]
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        sys.argv = before
    return 0


@pytest.fixture(scope="module")
def model(production: ProductionConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("production")
    save_production(production, folder / "best.yaml")
    assert run("train", folder / "best.yaml", "-o", folder / "model", "--device", "cpu") == 0
    return folder / "model"


def test_leaves_a_complete_model_folder(model: Path, production: ProductionConfig) -> None:
    assert sorted(p.name for p in model.iterdir()) == ["config.yaml", "metrics.json", "pictures", "weights.pt"]
    assert {p.name for p in (model / "pictures").iterdir()} == {"examples.jpg", "precision-recall.png"}
    metrics = json.loads((model / "metrics.json").read_text())
    assert metrics["split"] == "test"
    assert metrics["metrics"]["map"] is not None
    loaded = load_model(model)
    assert loaded.config == production.config
    assert loaded.operating_point == production.operating_point
    assert loaded.info.production == production


def test_evaluate_gives_the_numbers_of_training(
    model: Path, data: DataSpec, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = json.loads((model / "metrics.json").read_text())
    assert data.test is not None
    for engine in ("tuner", "pycocotools"):
        assert (
            run("evaluate", model, "--data", data.path(data.test), "--json", "--device", "cpu", "--evaluator", engine)
            == 0
        )
        found = json.loads(capsys.readouterr().out)
        for name in ("map", "map50", "ar100"):
            assert found["metrics"][name] == pytest.approx(stored["metrics"][name], abs=1e-9)
        assert found["f1"] == stored["f1"]
        assert found["detail"]["micro"]["f1"] == pytest.approx(stored["f1"])
        assert len(found["detail"]["curves"]["macro"]) == 101


def test_evaluate_takes_a_study_file(
    model: Path, data: DataSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(f"name: scenes\ndata: {json.dumps(data.model_dump(mode='json'))}\n")
    assert run("evaluate", model, "--data", study, "--split", "val", "--device", "cpu") == 0
    said = capsys.readouterr().out
    assert "AP 0.50:0.95 (mAP)" in said
    assert "Confusion: rows the true class" in said


def test_evaluate_explains_errors_and_measures_cost(
    model: Path, data: DataSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert data.test is not None
    wanted = ("evaluate", model, "--data", data.path(data.test), "--device", "cpu")
    assert run(*wanted, "--errors", "--cost", "--pictures", tmp_path / "worst", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["errors"]["map50"] == pytest.approx(found["metrics"]["map50"])
    assert found["cost"]["batch"]["batch_size"] == 4
    assert found["cost"]["multiply_adds"] > found["cost"]["parameters"] > 0
    drawn = sorted(path.name for path in (tmp_path / "worst").iterdir())
    assert len(drawn) == sum(name.startswith(("missed-", "false-positive-")) for name in drawn) > 0
    assert run(*wanted, "--errors", "--cost") == 0
    said = capsys.readouterr().out
    assert "what would be gained without each kind of error" in said
    assert "G multiply-adds for an image" in said
    assert run(*wanted, "--pictures", tmp_path / "worst") == 1


def test_predict_writes_coco_json_and_pictures(
    model: Path, data: DataSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    split, _ = load_split(data, "test")
    folder = tmp_path / "images"
    folder.mkdir()
    for name in split.file_names[:3]:
        shutil.copy(split.images_dir / name, folder)
    single = split.images_dir / split.file_names[3]
    assert run("predict", model, folder, single, "-o", tmp_path / "out", "--device", "cpu") == 0
    found = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert len(found["images"]) == 4
    assert {c["id"] for c in found["categories"]} == set(split.category_ids)
    point = load_model(model).operating_point
    names = {c["id"]: c["name"] for c in found["categories"]}
    for one in found["annotations"]:
        name = names[one["category_id"]]
        assert one["score"] >= point.class_confidence.get(name, point.confidence) - 1e-6
        assert one["bbox"][2] > 0
        assert one["bbox"][3] > 0
    drawn = sorted((tmp_path / "out" / "drawn").iterdir())
    assert len(drawn) == 4
    assert cv2.imread(str(drawn[0])).shape[:2] == (72, 96)


def test_chunks_change_nothing(model: Path, data: DataSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    split, _ = load_split(data, "test")
    loaded = load_model(model)
    whole = predict(loaded, split, CPU)
    assert len(split) < CHUNK
    monkeypatch.setattr("tuner.export.predicting.CHUNK", 3)
    parts = predict(loaded, split, CPU)
    np.testing.assert_array_equal(whole.offsets, parts.offsets)
    np.testing.assert_allclose(whole.scores, parts.scores, atol=1e-5)
    for start, end in itertools.pairwise(whole.offsets):  # in any order: of almost equal scores rounding decides
        distance = np.abs(whole.boxes[start:end, None] - parts.boxes[None, start:end]).max(axis=-1)
        assert distance.min(axis=1).max() < 1e-3
    np.testing.assert_array_equal(
        predict_shown(loaded, split, CPU).offsets, shown(predict(loaded, split, CPU), loaded.info).offsets
    )


def test_tiles_of_an_image_are_seen_as_images_of_their_own(model: Path, tmp_path: Path, data: DataSpec) -> None:
    split, _ = load_split(data, "test")
    loaded = load_model(model)
    tiles = Tiles(size=64, overlap=0.25)
    # The windows of the first image as files, in PNG so that nothing is lost.
    image = read_image(split.images_dir / split.file_names[0])
    windows = windows_of(*split.sizes[0].tolist(), tiles)
    assert len(windows) == 5
    paths = []
    for i, (left, top, right, bottom) in enumerate(windows):
        paths.append(tmp_path / f"{i}.png")
        cv2.imwrite(str(paths[-1]), cv2.cvtColor(image[top:bottom, left:right], cv2.COLOR_RGB2BGR))
    alone = predict(loaded, unlabelled_split(paths, loaded.info)[0], CPU)
    whole = predict(
        loaded, unlabelled_split([split.images_dir / split.file_names[0]], loaded.info)[0], CPU, tiles=tiles
    )
    boxes = alone.boxes + windows[alone.image_index][:, [0, 1, 0, 1]]
    assert whole.offsets.tolist() == [0, len(alone.scores)]
    order = np.argsort(-alone.scores, kind="stable")
    np.testing.assert_allclose(whole.scores, alone.scores[order], atol=1e-5)
    np.testing.assert_allclose(np.sort(whole.boxes, axis=0), np.sort(boxes, axis=0), atol=0.05)
    untouched = predict(loaded, split, CPU)
    large = predict(loaded, split, CPU, tiles=Tiles(size=96))
    np.testing.assert_allclose(large.scores, untouched.scores, atol=1e-5)


def test_tiles_on_the_command_line(
    model: Path, data: DataSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    split, _ = load_split(data, "test")
    image = split.images_dir / split.file_names[0]
    assert run("predict", model, image, "-o", tmp_path / "out", "--device", "cpu", "--tile", 64) == 0
    assert data.test is not None
    assert (
        run("evaluate", model, "--data", data.path(data.test), "--tile", 64, "--overlap", 0.3, "--device", "cpu") == 0
    )
    capsys.readouterr()
    assert run("predict", model, image, "-o", tmp_path / "out", "--tile", 8) == 1
    assert "tiles of 8 pixels are too small" in capsys.readouterr().err


def test_the_tiles_of_the_operating_point_are_used(model: Path, data: DataSpec, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    tiles = Tiles(size=64, overlap=0.3)
    info = load_model(model).info
    point = info.operating_point.model_copy(update={"tiles": tiles, "nms": "diou"})
    write_yaml(info.model_copy(update={"operating_point": point}), folder / "config.yaml", [], force=True)
    split, _ = load_split(data, "test")
    tiled, plain = load_model(folder), load_model(model)
    assert tiled.operating_point == point
    want = predict(plain, split, CPU, tiles=tiles)
    np.testing.assert_array_equal(predict(tiled, split, CPU).scores, want.scores)
    np.testing.assert_array_equal(predict_shown(tiled, split, CPU).scores, shown(want, tiled.info).scores)
    whole = predict(tiled, split, CPU, tiles=Tiles())
    np.testing.assert_array_equal(whole.scores, predict(plain, split, CPU).scores)


def test_shows_only_what_reaches_its_class_threshold(model: Path, data: DataSpec) -> None:
    split, _ = load_split(data, "test")
    loaded = load_model(model)
    point = loaded.operating_point
    found = predict_shown(loaded, split, CPU)
    thresholds = np.array([point.class_confidence.get(name, point.confidence) for name in loaded.classes])
    assert len(found.scores)
    assert (found.scores >= thresholds[found.labels]).all()
    listed = coco_json(found, split, loaded.info)["annotations"]
    assert [a["image_id"] for a in listed] == split.image_ids[found.image_index].tolist()


def test_nothing_in_a_folder_is_passed_over_in_silence(
    model: Path, data: DataSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    split, _ = load_split(data, "test")
    pictures = [Image.open(split.images_dir / name) for name in split.file_names[:2]]
    folder = tmp_path / "mixed"
    (folder / "more").mkdir(parents=True)
    for name in ("a.png", "b.bmp", "c.GIF", "d.webp", "e.jp2"):
        pictures[0].save(folder / name)
    pictures[0].save(folder / "stack.tif", save_all=True, append_images=pictures[1:])
    for name in ("notes.txt", ".hidden"):
        (folder / name).write_text("text")
    assert run("predict", model, folder, "-o", tmp_path / "out", "--device", "cpu") == 0
    said = capsys.readouterr().out
    assert "2 files and folders passed over: more/; notes.txt" in said
    assert "stack.tif has 2 pictures; only the first is looked at" in said
    assert "on 6 images" in said
    for name in ("a.png", "b.bmp"):
        (folder / name).write_text("no image")
    assert run("predict", model, folder, "-o", tmp_path / "out", "--device", "cpu") == 1
    assert f"{tmp_path / 'out' / 'drawn'} hold earlier results" in capsys.readouterr().err
    # Images that cannot be read are named, and keep no other from its results.
    assert run("predict", model, folder, "-o", tmp_path / "out", "--device", "cpu", "--force") == 1
    said = capsys.readouterr()
    assert "on 4 images" in said.out
    assert "2 images cannot be read" in said.err
    assert "a.png" in said.err
    assert "b.bmp" in said.err
    assert "annotation" not in said.err
    names = {"c.GIF", "d.webp", "e.jp2", "stack.tif"}
    found = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert {Path(image["file_name"]).name for image in found["images"]} == names
    assert {path.stem for path in (tmp_path / "out" / "drawn").iterdir()} == {Path(name).stem for name in names}
    assert run("predict", model, tmp_path, "-o", tmp_path / "out") == 1
    assert "no images in this folder; there are mixed/" in capsys.readouterr().err


def test_images_without_objects_are_judged_by_what_is_detected_on_them(
    model: Path, data: DataSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert data.test is not None
    annotated = json.loads(data.path(data.test).read_text())
    file = tmp_path / "empty.json"
    wanted = ("evaluate", model, "--data", file, "--images", data.path(data.images), "--device", "cpu", "--errors")
    for boxes in ([], [a | {"iscrowd": 1} for a in annotated["annotations"]]):
        file.write_text(json.dumps(annotated | {"annotations": boxes}))
        assert run(*wanted, "--json", "--pictures", tmp_path / "worst") == 0
        found = json.loads(capsys.readouterr().out)
        assert {found["metrics"]["map"], found["f1"], found["detail"]["micro"]["recall"]} == {None}
        assert found["errors"]["lost"]["background"] is None
        counts = found["detail"]["counts"]
        assert counts["negative_images"] == len(annotated["images"])
        assert counts["false_positives_on_negatives"] == sum(found["detail"]["confusion"][-1])
    assert run(*wanted) == 0
    said = capsys.readouterr().out
    assert "undefined" in said
    assert "nan" not in said
    assert "-1" not in said


def test_bad_boxes_are_repaired_where_that_is_asked_for(
    model: Path, data: DataSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert data.test is not None
    annotated = json.loads(data.path(data.test).read_text())
    annotated["annotations"][0]["bbox"] = [-5.0, 3.0, 30.0, 30.0]
    file = tmp_path / "bad.json"
    file.write_text(json.dumps(annotated))
    for command in ("evaluate", "calibrate"):
        wanted = (command, model, "--data", file, "--images", data.path(data.images), "--device", "cpu")
        if command == "calibrate":
            wanted += ("-o", tmp_path / "point.yaml")
        assert run(*wanted) == 1
        assert "--on-bad-boxes repair" in capsys.readouterr().err
        assert run(*wanted, "--on-bad-boxes", "repair") == 0
        assert "1 clipped, 0 dropped" in capsys.readouterr().out


def test_names_the_image_that_is_none(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.jpg").write_text("no image")
    assert run("predict", model, tmp_path / "broken.jpg", "-o", tmp_path / "out") == 1
    assert "broken.jpg" in capsys.readouterr().err
    assert run("predict", model, tmp_path / "none.jpg", "-o", tmp_path / "out") == 1
    assert "none.jpg" in capsys.readouterr().err


def test_goes_on_after_an_interruption(production: ProductionConfig, tmp_path: Path) -> None:
    def start(folder: Path, seed: int = 0) -> None:
        plan = make_plan(production, folder, epochs=None, seed=seed, part="train")
        train_production(
            plan, device="cpu", threads=1, stop_requested=lambda: next(batches, False), on_epoch=lambda result: None
        )

    batches = iter([False, False, False, True])
    folder = tmp_path / "model"
    with pytest.raises(Interrupted):
        start(folder)
    with pytest.raises(ConfigError, match=r"weights\.pt is missing"):
        load_model(folder)
    with pytest.raises(ConfigError, match="interrupted training with another seed"):
        start(folder, seed=1)
    start(folder)
    start(tmp_path / "undisturbed")
    undisturbed = load_model(tmp_path / "undisturbed").detector.state_dict()
    for name, value in load_model(folder).detector.state_dict().items():
        assert torch.equal(value, undisturbed[name]), name
    with pytest.raises(ConfigError, match="finished model"):
        start(folder)


def test_train_and_val_together_are_judged_on_test_alone(
    production: ProductionConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_production(production, tmp_path / "best.yaml")
    arguments = ("train", tmp_path / "best.yaml", "-o", tmp_path / "model", "--device", "cpu")
    assert run(*arguments, "--data", "train+val", "--epochs", 1) == 0
    said = capsys.readouterr().out
    assert "only the test split can judge" in said
    assert "Training 1 epochs where the study trained 2" in said
    assert "val mAP" not in said
    info = load_model(tmp_path / "model").info
    assert (info.trained_on, info.config.epochs) == ("train+val", 1)


def test_merging_keeps_every_image_and_box(data: DataSpec, tmp_path: Path) -> None:
    merged, _ = load_split(merge_splits(data, tmp_path / "both.json"), "train")
    train, val = load_split(data, "train")[0], load_split(data, "val")[0]
    assert merged.file_names == train.file_names + val.file_names
    np.testing.assert_array_equal(merged.boxes, np.concatenate([train.boxes, val.boxes]))
    np.testing.assert_array_equal(merged.labels, np.concatenate([train.labels, val.labels]))
    assert len(set(merged.annotation_ids.tolist())) == len(merged.boxes)
    with pytest.raises(DataError, match="in both"):
        merge_splits(data.model_copy(update={"val": data.train}), tmp_path / "both.json")
    # The same images as a tool on Windows names them, behind a byte order mark.
    content = json.loads(data.path(data.train).read_text())
    for image in content["images"]:
        image["file_name"] = rf".\{image['file_name']}"
    (tmp_path / "windows.json").write_text(json.dumps(content), encoding="utf-8-sig")
    windows = data.model_copy(update={"val": tmp_path / "windows.json"})
    with pytest.raises(DataError, match="8 images are in both"):
        merge_splits(windows, tmp_path / "both.json")
    (merged, _), (train, _) = (
        load_split(one, "train")
        for one in (merge_splits(windows.model_copy(update={"train": data.val}), tmp_path / "both.json"), data)
    )
    assert merged.file_names[4:] == train.file_names


def test_epochs_that_do_not_fit_are_refused(production: ProductionConfig, tmp_path: Path) -> None:
    config = production.config.model_copy(update={"warmup_epochs": 1.5})
    with pytest.raises(ConfigError, match="warmup_epochs"):
        make_plan(production.model_copy(update={"config": config}), tmp_path / "m", epochs=1, seed=None, part="train")


def test_says_which_part_of_a_model_is_missing_or_broken(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        load_model(tmp_path / "none")
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    (folder / "weights.pt").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match=r"weights.pt cannot be read"):
        load_model(folder)
    torch.save({"other": torch.zeros(1)}, folder / "weights.pt")
    with pytest.raises(WeightsError, match="does not fit"):
        load_model(folder)
    (folder / "config.yaml").unlink()
    with pytest.raises(ConfigError, match=r"config\.yaml is missing"):
        load_model(folder)


def test_other_classes_are_named(
    model: Path, data: DataSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert data.test is not None
    annotations = json.loads(data.path(data.test).read_text())
    annotations["categories"][0]["name"] = "unicorn"
    (tmp_path / "other.json").write_text(json.dumps(annotations))
    assert run("evaluate", model, "--data", tmp_path / "other.json", "--images", data.path(data.images)) == 1
    assert "has unicorn, which the model does not know" in capsys.readouterr().err


def test_reads_images_without_annotations(model: Path, data: DataSpec) -> None:
    split, _ = load_split(data, "test")
    paths = [split.images_dir / name for name in split.file_names]
    bare, faults = unlabelled_split(paths, load_model(model).info)
    assert faults == []
    np.testing.assert_array_equal(bare.sizes, split.sizes)
    assert len(bare.boxes) == 0
