"""From a production config to a trained model and its judgement, through the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from tests.export.command import run
from tuner.config.errors import ConfigError, DataError, WeightsError
from tuner.config.study import DataSpec
from tuner.data.coco import load_dataset, load_split
from tuner.data.fingerprint import fingerprint
from tuner.export.model import load_model
from tuner.export.production import ProductionConfig
from tuner.export.training import merge_splits, train_production
from tuner.export.training_plan import finish, make_plan
from tuner.export.yaml_files import save_production
from tuner.trainers.contract import CHECKPOINT, Interrupted


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
        assert found["split"] is None  # of a file alone nobody knows
        assert found["detail"]["micro"]["f1"] == pytest.approx(stored["f1"])
        assert len(found["detail"]["curves"]["macro"]) == 101


def test_evaluate_takes_a_study_file(
    model: Path, data: DataSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(f"name: scenes\ndata: {json.dumps(data.model_dump(mode='json'))}\n")
    for split in ("train", "val", "test"):
        assert run("evaluate", model, "--data", study, "--split", split, "--device", "cpu", "--json") == 0
        assert json.loads(capsys.readouterr().out)["split"] == split
    assert run("evaluate", model, "--data", study, "--split", "val", "--device", "cpu") == 0
    said = capsys.readouterr().out
    assert "AP 0.50:0.95 (mAP)" in said
    assert "Confusion: rows the true class" in said


def test_evaluate_says_what_it_was_given_instead_of_a_file(
    model: Path, data: DataSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for more in ((), ("--images", data.path(data.images))):
        assert run("evaluate", model, "--data", tmp_path, *more) == 1
        assert f"--data: {tmp_path} is a folder; expected a COCO JSON or a study file" in capsys.readouterr().err
    assert run("evaluate", model, "--data", tmp_path / "none.json") == 1
    assert "does not exist" in capsys.readouterr().err


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


def test_an_image_in_two_splits_is_told(
    model: Path, production: ProductionConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = production.provenance
    twice = source.model_copy(update={"data": source.data.model_copy(update={"val": source.data.train})})
    save_production(production.model_copy(update={"provenance": twice}), tmp_path / "best.yaml")
    assert run("train", tmp_path / "best.yaml", "-o", model) == 1  # a finished model lies there
    assert "note: 8 images are in train and in val" in capsys.readouterr().err


def test_goes_on_after_an_interruption(production: ProductionConfig, tmp_path: Path) -> None:
    def start(folder: Path, seed: int = 0) -> None:
        plan = make_plan(production, folder, epochs=None, seed=seed, part="train")
        train_production(
            plan, device="cpu", threads=1, stop_requested=lambda: next(batches, False), on_epoch=lambda result: None
        )
        finish(plan)

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


def test_an_interrupted_training_goes_on_with_no_other_data(
    production: ProductionConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = production.provenance
    shutil.copytree(source.data.root, tmp_path / "data")
    data = source.data.model_copy(update={"root": tmp_path / "data"})
    own = production.model_copy(update={"provenance": source.model_copy(update={"data": data})})
    save_production(own, tmp_path / "best.yaml")
    folder = tmp_path / "model"
    batches = iter([False, False, False, True])
    plan = make_plan(own, folder, epochs=None, seed=None, part="train")  # of a version that did not keep the data
    with pytest.raises(Interrupted):
        train_production(
            plan, device="cpu", threads=1, stop_requested=lambda: next(batches), on_epoch=lambda result: None
        )
    arguments = ("train", tmp_path / "best.yaml", "-o", folder, "--device", "cpu")
    make_plan(own, folder, epochs=None, seed=None, part="train", data=fingerprint(data, load_dataset(data)))
    content = json.loads(data.path(data.train).read_text())
    data.path(data.train).write_text(json.dumps(content | {"annotations": content["annotations"][1:]}))
    assert run(*arguments) == 1
    assert "interrupted training with another train split" in capsys.readouterr().err
    assert run(*arguments, "--data", "train+val") == 1
    assert "with another data, train split" in capsys.readouterr().err
    data.path(data.train).write_text(json.dumps(content, indent=1))
    assert run(*arguments) == 0
    assert load_model(folder).config == production.config


def test_a_damaged_checkpoint_is_named_and_the_same_command_begins_again(
    production: ProductionConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_production(production, tmp_path / "best.yaml")
    folder = tmp_path / "model"
    plan = make_plan(production, folder, epochs=1, seed=None, part="train")
    (plan.workdir / CHECKPOINT).write_bytes(b"cut off")
    arguments = ("train", tmp_path / "best.yaml", "-o", folder, "--device", "cpu", "--epochs", 1)
    assert run(*arguments) == 1
    assert capsys.readouterr().err.strip().endswith("begins again with epoch 1\nGive the same command again.")
    assert run(*arguments) == 0


def test_a_model_that_was_saved_and_not_judged_is_judged_by_the_same_command(
    production: ProductionConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_production(production, tmp_path / "best.yaml")
    folder = tmp_path / "model"
    plan = make_plan(production, folder, epochs=None, seed=None, part="train")
    train_production(plan, device="cpu", threads=1, stop_requested=lambda: False, on_epoch=lambda result: None)
    saved = load_model(folder).detector.state_dict()
    (folder / "metrics.json").unlink()  # killed before it was judged
    arguments = ("train", tmp_path / "best.yaml", "-o", folder, "--device", "cpu")
    assert run(*arguments, "--seed", 99) == 1
    assert "interrupted training with another seed" in capsys.readouterr().err
    assert run(*arguments) == 0
    assert "On the test split" in capsys.readouterr().out
    assert sorted(p.name for p in folder.iterdir()) == ["config.yaml", "metrics.json", "pictures", "weights.pt"]
    assert all(torch.equal(value, saved[name]) for name, value in load_model(folder).detector.state_dict().items())
    assert run(*arguments) == 1
    assert "holds a finished model" in capsys.readouterr().err


def test_a_training_that_never_began_blocks_no_other(
    production: ProductionConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_production(production, tmp_path / "best.yaml")
    folder = tmp_path / "model"
    arguments = ("train", tmp_path / "best.yaml", "-o", folder)
    assert run(*arguments, "--device", "cuda:99") == 1
    assert "device 'cuda:99'" in capsys.readouterr().err
    assert not folder.exists()
    make_plan(production, folder, epochs=2, seed=0, part="train")  # and what follows fails
    make_plan(production, folder, epochs=1, seed=1, part="train")
    assert run(*arguments, "--device", "cpu", "--epochs", 1) == 0
    assert load_model(folder).info.seed == 0


def test_seeds_beyond_those_that_generators_take_are_refused(
    production: ProductionConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "best.yaml"
    save_production(production, file)
    assert run("train", file, "-o", tmp_path / "model", "--seed", 2**31) == 2
    assert "2147483647" in capsys.readouterr().err
    file.write_text(file.read_text().replace("  seed: 0\n", f"  seed: {10**22}\n"))
    assert run("train", file, "-o", tmp_path / "model") == 1
    said = capsys.readouterr().err
    assert "provenance.seed: should be less than or equal to 2147483647" in said
    assert "best.yaml:" in said
    assert not (tmp_path / "model").exists()


def test_train_and_val_together_are_judged_on_test_alone(
    production: ProductionConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_production(production, tmp_path / "best.yaml")
    arguments = ("train", tmp_path / "best.yaml", "-o", tmp_path / "model", "--device", "cpu")
    assert run(*arguments, "--data", "train+val", "--epochs", 1) == 0
    said = capsys.readouterr().out
    assert "only the test split can judge" in said
    assert "Training 1 epoch where the study trained 2" in said
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
    config = folder / "config.yaml"
    info = yaml.safe_load(config.read_text())
    own = info["category_ids"]
    for ids in ([*own, 77], [*own, own[0]], own[:1] * len(own)):
        config.write_text(yaml.safe_dump(info | {"category_ids": ids}))
        with pytest.raises(ConfigError, match=f"category_ids: {len(info['classes'])} classes need as many ids"):
            load_model(folder)
    config.unlink()
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
