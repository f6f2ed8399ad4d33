"""Predictions of a trained model, on the command line and in memory."""

from __future__ import annotations

import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from tests.export.command import run
from tuner.config.errors import DataError
from tuner.config.study import DataSpec
from tuner.config.trial import Tiles
from tuner.data.coco import load_split
from tuner.data.images import read_image
from tuner.data.tiles import windows_of
from tuner.export.judging import cost_of
from tuner.export.model import LoadedModel, load_model
from tuner.export.predicting import CHUNK, coco_json, predict, predict_raw, predict_shown, unlabelled_split
from tuner.export.yaml_files import write_yaml
from tuner.models.dense import DenseDetector
from tuner.models.detector import Candidates
from tuner.models.predictions import Detections, RawPredictions
from tuner.postprocess.nms import shown_at
from tuner.trainers.contract import OutOfMemory


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


def shown(model: LoadedModel, raw: RawPredictions) -> Detections:
    return shown_at(raw, model.operating_point, model.classes, max_detections=model.config.max_detections)


def test_chunks_change_nothing(model: Path, data: DataSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    split, _ = load_split(data, "test")
    loaded = load_model(model)
    whole = predict_raw(loaded, split)
    assert len(split) < CHUNK
    monkeypatch.setattr("tuner.export.predicting.CHUNK", 3)
    parts = predict_raw(loaded, split)
    np.testing.assert_array_equal(whole.offsets, parts.offsets)
    np.testing.assert_allclose(whole.scores, parts.scores, atol=1e-5)
    for start, end in itertools.pairwise(whole.offsets):  # in any order: of almost equal scores rounding decides
        distance = np.abs(whole.boxes[start:end, None] - parts.boxes[None, start:end]).max(axis=-1)
        assert distance.min(axis=1).max() < 1e-3
    np.testing.assert_array_equal(
        predict_shown(loaded, split).offsets, shown(loaded, predict_raw(loaded, split)).offsets
    )


def test_fewer_images_at_a_time_where_a_gpu_holds_no_more(
    model: Path, data: DataSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    split, _ = load_split(data, "test")
    loaded = load_model(model)
    whole = predict_raw(loaded, split)
    real, sizes = DenseDetector.candidates, []

    def cramped(detector: DenseDetector, images: torch.Tensor) -> Candidates:
        sizes.append(len(images))
        if len(images) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return real(detector, images)

    monkeypatch.setattr(DenseDetector, "candidates", cramped)
    parts = predict_raw(loaded, split)
    assert sizes == [4, 4, 2, 2]  # eight at a time, of which there are four, then four, then two
    np.testing.assert_allclose(np.sort(parts.scores), np.sort(whole.scores), atol=1e-5)
    cost = cost_of(loaded, split)
    assert cost.batch.batch_size <= 2


def test_a_gpu_that_holds_no_image_is_told_as_such(
    model: Path, data: DataSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> Candidates:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB.\nSee the documentation")

    split, _ = load_split(data, "test")
    loaded = load_model(model)
    monkeypatch.setattr(DenseDetector, "candidates", full)
    with pytest.raises(OutOfMemory, match=r"does not hold a single image beside the model: .* 20 MiB\.") as said:
        predict_raw(loaded, split)
    assert "--device cpu" in str(said.value)


def test_tiles_of_an_image_are_seen_as_images_of_their_own(
    model: Path, tmp_path: Path, data: DataSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuner.trainers.detection.tiling._WINDOWS_OF_AN_OBJECT", 5)  # so that all rows are kept
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
    alone = predict_raw(loaded, unlabelled_split(paths, loaded.info)[0])
    whole = predict_raw(loaded, unlabelled_split([split.images_dir / split.file_names[0]], loaded.info)[0], tiles=tiles)
    boxes = alone.boxes + windows[alone.image_index][:, [0, 1, 0, 1]]
    assert whole.offsets.tolist() == [0, len(alone.scores)]
    order = np.argsort(-alone.scores, kind="stable")
    np.testing.assert_allclose(whole.scores, alone.scores[order], atol=1e-5)
    np.testing.assert_allclose(np.sort(whole.boxes, axis=0), np.sort(boxes, axis=0), atol=0.05)
    untouched = predict_raw(loaded, split)
    large = predict_raw(loaded, split, tiles=Tiles(size=96))
    np.testing.assert_allclose(large.scores, untouched.scores, atol=1e-5)


@pytest.mark.parametrize("factor", [0.5, 2])
@pytest.mark.parametrize("tiles", [Tiles(), Tiles(size=40)])
def test_images_of_another_size_than_annotated_are_refused(
    model: Path, data: DataSpec, tiles: Tiles, factor: float
) -> None:
    split, _ = load_split(data, "test")
    wrong = replace(split, sizes=(split.sizes * factor).astype(np.int32))
    with pytest.raises(
        DataError, match=rf"{split.file_names[0]} is 96 x 72, not {96 * factor:.0f} x {72 * factor:.0f}"
    ):
        predict_raw(load_model(model), wrong, tiles=tiles)


def test_tiles_on_the_command_line(
    model: Path, data: DataSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    split, _ = load_split(data, "test")
    image = split.images_dir / split.file_names[0]
    assert run("predict", model, image, "-o", tmp_path / "out", "--device", "cpu", "--tile", 64) == 0
    assert data.test is not None
    wanted = ("evaluate", model, "--data", data.path(data.test), "--overlap", 0.3, "--device", "cpu", "--cost")
    costs = []
    for size in (64, 0):
        capsys.readouterr()
        assert run(*wanted, "--tile", size, "--json") == 0
        costs.append(json.loads(capsys.readouterr().out)["cost"]["multiply_adds"])
    windows = len(windows_of(*split.sizes[0].tolist(), Tiles(size=64, overlap=0.3)))
    assert costs[0] == windows * costs[1] > costs[1]
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
    want = predict_raw(plain, split, tiles=tiles)
    np.testing.assert_array_equal(predict_raw(tiled, split).scores, want.scores)
    np.testing.assert_array_equal(predict_shown(tiled, split).scores, shown(tiled, want).scores)
    whole = predict_raw(tiled, split, tiles=Tiles())
    np.testing.assert_array_equal(whole.scores, predict_raw(plain, split).scores)


def test_what_was_trained_in_fp16_on_a_gpu_predicts_on_a_cpu(model: Path, data: DataSpec) -> None:
    split, _ = load_split(data, "test")
    loaded = load_model(model)  # its precision is auto
    config = loaded.config.model_copy(update={"precision": "fp16"})
    moved = LoadedModel(loaded.detector, loaded.info.model_copy(update={"config": config}))
    np.testing.assert_array_equal(predict_raw(moved, split).scores, predict_raw(loaded, split).scores)
    assert cost_of(moved, split).precision == cost_of(loaded, split).precision


def test_shows_only_what_reaches_its_class_threshold(model: Path, data: DataSpec) -> None:
    split, _ = load_split(data, "test")
    loaded = load_model(model)
    point = loaded.operating_point
    found = predict_shown(loaded, split)
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
    assert f"{folder}: passed over: notes.txt" in said
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
    (tmp_path / "bare" / "texts").mkdir(parents=True)
    (tmp_path / "bare" / "texts" / "notes.txt").touch()
    assert run("predict", model, tmp_path / "bare", "-o", tmp_path / "out") == 1
    assert "no images in this folder; there are texts/notes.txt" in capsys.readouterr().err


def test_folders_in_a_folder_are_looked_into(
    model: Path, data: DataSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its results do not come back as images when they lie in it."""
    split, _ = load_split(data, "test")
    top = tmp_path / "photos"
    places = ("b.jpg", "day 1/a.jpg", "day 1/cam/a.jpg", "day 2/a.png", "day 2/a.jpg", "day 2/c.jpg", ".trash/d.jpg")
    for place in places:
        (top / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(split.images_dir / split.file_names[0], top / place)
    (top / "again").symlink_to(top)
    out = top / "results"
    for force in ((), ("--force",)):
        assert run("predict", model, top, "-o", out, "--device", "cpu", *force) == 0
        assert "passed over: again/" in capsys.readouterr().out
        found = json.loads((out / "detections.json").read_text())
        seen = [str(Path(image["file_name"]).relative_to(top)) for image in found["images"]]
        assert seen == ["b.jpg", "day 1/a.jpg", "day 1/cam/a.jpg", "day 2/a.jpg", "day 2/a.png", "day 2/c.jpg"]
        names = {path.stem for path in (out / "drawn").iterdir()}
        assert names == {"b", "day 1-a", "day 1-cam-a", "day 2-a", "day 2-a-2", "c"}


def test_names_the_image_that_is_none(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.jpg").write_text("no image")
    assert run("predict", model, tmp_path / "broken.jpg", "-o", tmp_path / "out") == 1
    assert "broken.jpg" in capsys.readouterr().err
    assert run("predict", model, tmp_path / "none.jpg", "-o", tmp_path / "out") == 1
    assert "none.jpg" in capsys.readouterr().err


def test_reads_images_without_annotations(model: Path, data: DataSpec) -> None:
    split, _ = load_split(data, "test")
    paths = [split.images_dir / name for name in split.file_names]
    bare, faults = unlabelled_split(paths, load_model(model).info)
    assert faults == []
    np.testing.assert_array_equal(bare.sizes, split.sizes)
    assert len(bare.boxes) == 0


def test_a_script_predicts_on_files(model: Path, data: DataSpec, tmp_path: Path) -> None:
    split, _ = load_split(data, "test")
    loaded = load_model(str(model))
    (tmp_path / "broken.jpg").write_text("no image")
    paths = [split.images_dir / name for name in split.file_names]
    found = predict(loaded, [str(paths[0]), tmp_path / "broken.jpg", *paths[1:]])
    assert [path for path, _ in found.by_image()] == paths
    want = predict_shown(loaded, split)
    for i, (_, here) in enumerate(found.by_image()):
        np.testing.assert_array_equal(here.scores, want.scores[want.image_index == i])
        assert here.offsets.tolist() == [0, len(here.boxes)]
    assert len(found.faults) == 1
    assert "broken.jpg" in found.faults[0]
    assert predict(loaded, [tmp_path / "broken.jpg"]).by_image() == predict(loaded, []).by_image() == []


def test_a_long_image_has_its_picture(model: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "belt.png"), np.full((2, 65_535, 3), 90, np.uint8))
    assert run("predict", model, tmp_path / "belt.png", "-o", tmp_path / "out", "--device", "cpu") == 0
    assert cv2.imread(str(tmp_path / "out" / "drawn" / "belt.png")).shape == (2, 65_535, 3)


def test_what_is_read_is_never_replaced(
    model: Path, data: DataSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    split, _ = load_split(data, "test")
    out, image = tmp_path / "out", split.images_dir / split.file_names[0]
    assert run("predict", model, image, "-o", out, "--device", "cpu") == 0
    (out / "drawn" / "old.txt").write_text("of the earlier results")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    (tmp_path / "link").symlink_to(out)
    capsys.readouterr()
    for inside in (out / "drawn", out / "drawn" / f"{image.stem}.jpg", tmp_path / "link" / "drawn"):
        assert run("predict", model, inside, "-o", out, "--device", "cpu", "--force") == 1
        assert "is read, but lies in" in capsys.readouterr().err
        assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert run("predict", model, out / "drawn", "-o", tmp_path / "again", "--device", "cpu") == 0
    assert run("predict", model, image, "-o", out, "--device", "cpu", "--force") == 0
    assert sorted(path.name for path in out.rglob("*")) == ["detections.json", "drawn", f"{image.stem}.jpg"]


def test_earlier_results_stay_where_there_are_no_new_ones(model: Path, data: DataSpec, tmp_path: Path) -> None:
    split, _ = load_split(data, "test")
    out = tmp_path / "out"
    assert run("predict", model, split.images_dir / split.file_names[0], "-o", out, "--device", "cpu") == 0
    before = sorted(out.rglob("*"))
    (tmp_path / "broken.jpg").write_text("no image")
    assert run("predict", model, tmp_path / "broken.jpg", "-o", out, "--device", "cpu", "--force") == 1
    assert sorted(out.rglob("*")) == before


def test_a_file_as_output_is_refused_before_anything_is_read(
    model: Path, data: DataSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "drawn").touch()
    for output in ("file", "out"):
        assert run("predict", tmp_path / "no model", data.path(data.images), "-o", tmp_path / output, "--force") == 1
        assert "is a file, not a folder" in capsys.readouterr().err
    assert run("predict", tmp_path / "no model", data.path(data.images), "-o", tmp_path / "new") == 1
    assert not (tmp_path / "new").exists()
