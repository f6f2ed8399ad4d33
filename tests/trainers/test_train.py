"""The built-in trainer on real pixels: it learns, measures what the study asks for, and its failures have kinds."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pickle
import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.trainers.training_case import never, variant, weights
from tuner.config.alive import Activity
from tuner.config.trial import WHOLE, Augment, Tiles, TrialConfig
from tuner.data import cache, scenes
from tuner.data.coco import load_dataset
from tuner.data.fingerprint import fingerprint
from tuner.data.tiles import windows_of
from tuner.evaluation import latency
from tuner.evaluation.cost import ImageCost
from tuner.models.anchors import resolve_anchors
from tuner.models.dense import DenseDetector
from tuner.models.detector import Candidates
from tuner.models.predictions import Detections, RawPredictions
from tuner.postprocess.nms import suppress
from tuner.postprocess.sweep import NMS_IOUS, nms_grid
from tuner.postprocess.swept import NOTHING, Swept
from tuner.trainers.contract import (
    DETECTIONS,
    BadConfig,
    BadData,
    Diverged,
    EpochResult,
    OutOfMemory,
    TrainingTask,
    silent,
)
from tuner.trainers.detection import cost, judging, run
from tuner.trainers.detection.prepared_data import _indexed, prepared_data
from tuner.trainers.detection.train import train


def test_learns(task: TrainingTask) -> None:
    changes = {"epochs": 36, "batch_size": 4, "learning_rate": 3e-3, "augment": Augment(strength=0.1, mosaic=0.0)}
    learner = variant(task, "learner", **changes)
    results = list(train(learner, never))
    assert [r.epoch for r in results] == list(range(1, 37))
    assert results[0].metrics.map is not None
    assert results[-1].metrics.map is not None
    assert results[0].metrics.map < 0.05
    assert results[-1].metrics.map > 0.25
    assert sum(results[-1].losses.values()) < 0.7 * sum(results[0].losses.values())
    assert results[-1].metrics.operating_point is not None
    assert results[-1].metrics.operating_point.f1 > 0.5
    torch.save(weights(learner), learner.workdir / "weights.pt")
    again = next(train(variant(task, "again", weights=str(learner.workdir / "weights.pt"), **changes), never))
    assert again.metrics.map is not None
    assert again.metrics.map > 0.2  # it goes on from what was learnt


def test_other_annotations_than_those_of_the_study_are_refused(task: TrainingTask, tmp_path: Path) -> None:
    data = scenes.generate(tmp_path / "data", train=4, val=2, test=1, size=(64, 48))
    begun = fingerprint(data, load_dataset(data))
    own = dataclasses.replace(task, data=data, fingerprint=begun, workdir=tmp_path / "0", cache_dir=tmp_path / "cache")
    assert next(train(own, never)).epoch == 1
    file = data.path(data.val)
    content = json.loads(file.read_text())
    content["annotations"].pop()
    file.write_text(json.dumps(content))
    _indexed.cache_clear()  # as in another process
    prepared_data.cache_clear()
    with pytest.raises(BadData, match=r"are not those that the study was begun with:\n  val: \d+ boxes, was \d+"):
        next(train(dataclasses.replace(own, workdir=tmp_path / "1"), never))
    assert next(train(dataclasses.replace(own, fingerprint=None, workdir=tmp_path / "2"), never)).epoch == 1


def test_all_threads_of_a_trial_decode_images(task: TrainingTask, monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(2, timeout=30)
    real = cache.read_image

    def waiting(path: Path) -> Any:
        together.wait()
        return real(path)

    monkeypatch.setattr(cache, "read_image", waiting)
    fresh = dataclasses.replace(task, threads=2, cache_dir=task.cache_dir.with_name("fresh"))
    with contextlib.closing(train(variant(fresh, "decoding"), never)) as epochs:
        assert next(epochs).epoch == 1


def test_a_gpu_that_holds_fewer_images_judges_fewer_at_a_time(
    task: TrainingTask, undisturbed: tuple[TrainingTask, list[EpochResult]], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, sizes = judging.predict, []

    def cramped(detector: Any, batches: Any, *rest: Any) -> RawPredictions:
        seen = list(batches)
        sizes.append(len(seen[0]))
        if len(seen[0]) > 4:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return real(detector, iter(seen), *rest)

    monkeypatch.setattr(judging, "predict", cramped)
    results = list(train(variant(task, "cramped"), never))
    assert sizes == [16, 8, 4, 4, 4]
    assert results[-1].metrics.map == pytest.approx(undisturbed[1][-1].metrics.map)


def test_a_gpu_that_holds_no_optimiser_is_told_as_such(task: TrainingTask, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(run, "build_optimizer", full)
    with pytest.raises(OutOfMemory, match="dense-tiny does not fit into memory with its optimiser: CUDA out of memory"):
        next(iter(train(variant(task, "no optimiser"), never)))


def test_a_gpu_that_holds_fewer_images_times_fewer_at_a_time(
    task: TrainingTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, limit = DenseDetector.candidates, 3

    def cramped(detector: DenseDetector, images: torch.Tensor) -> Candidates:
        if len(images) > limit:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return real(detector, images)

    def cost_of(name: str, **changes: object) -> ImageCost:
        asked = variant(task, name, epochs=1, warmup_epochs=0.0, **changes)
        (result,) = train(dataclasses.replace(asked, swept=NOTHING, measure_cost=True), never)
        assert result.metrics.cost is not None
        return result.metrics.cost

    monkeypatch.setattr(latency, "SECONDS", 0.0)
    monkeypatch.setattr(DenseDetector, "candidates", cramped)
    whole = cost_of("timed")
    assert (whole.single.batch_size, whole.batch.batch_size) == (1, 2)
    tiles = Tiles(size=64, overlap=0.25)
    windows = len(windows_of(160, 120, tiles))
    assert windows > limit
    tiled = cost_of("timed tiled", tiles=tiles)
    assert tiled.multiply_adds == windows * whole.multiply_adds


def test_memory_that_is_short_while_timing_alone_ends_no_trial(
    task: TrainingTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, sizes = cost.candidates_of, []

    def cramped(detector: Any, images: torch.Tensor, *rest: Any) -> Candidates:
        sizes.append(len(images))
        if len(images) > 4:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return real(detector, images, *rest)

    monkeypatch.setattr(latency, "SECONDS", 0.0)
    monkeypatch.setattr(cost, "candidates_of", cramped)
    asked = variant(task, "timing", epochs=1, warmup_epochs=0.0)
    (result,) = train(dataclasses.replace(asked, measure_cost=True), never)
    assert result.metrics.cost is not None
    assert result.metrics.cost.batch.batch_size == 4
    assert set(sizes) == {1, task.config.batch_size, 4}


def test_predictions_that_are_no_numbers_mean_that_the_training_diverged(
    task: TrainingTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = judging.predict

    def broken(detector: torch.nn.Module, *rest: Any) -> RawPredictions:
        with torch.no_grad():
            next(detector.parameters()).fill_(torch.nan)
        return real(detector, *rest)

    monkeypatch.setattr(judging, "predict", broken)
    with pytest.raises(Diverged, match=r"after epoch 1: .* NaN or infinite"):
        list(train(variant(task, "broken"), never))


def test_tiles_and_kinds_of_nms_are_tried_after_the_last_epoch(
    task: TrainingTask, undisturbed: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: dict[Tiles, RawPredictions] = {}
    real = judging.predict_tiles

    def counted(*arguments: Any) -> RawPredictions:
        return tried.setdefault(arguments[2], real(*arguments))

    monkeypatch.setattr(latency, "SECONDS", 0.0)
    monkeypatch.setattr(judging, "predict_tiles", counted)
    small, large = Tiles(size=64), Tiles(size=96)
    swept = Swept(tiles=(small, large), nms=("soft-linear", "diou"))
    asked = dataclasses.replace(variant(task, "tiled", epochs=2), swept=swept, measure_cost=True)
    results = list(train(asked, never))
    assert list(tried) == [small, large]
    first, last = (r.metrics.operating_point for r in results)
    assert first is None or (first.tiles, first.nms) == (WHOLE, "greedy")
    assert last is not None
    assert last.tiles in swept.tiles
    assert last.nms in swept.nms
    kept = Detections.load(asked.workdir / DETECTIONS)
    want = suppress(tried[last.tiles], last.nms_iou, kind=last.nms, max_detections=asked.config.max_detections)
    np.testing.assert_array_equal(kept.scores, want.scores)
    # An image costs as many passes as it has windows.
    costs = [r.metrics.cost for r in results]
    windows = len(windows_of(160, 120, last.tiles))
    assert costs[1].multiply_adds == windows * costs[0].multiply_adds
    assert costs[1].single == costs[1].batch
    # Tiles that are not swept are those of every epoch.
    tried.clear()
    fixed = variant(task, "fixed", epochs=1, tiles=large, warmup_epochs=0.5)
    (result,) = train(dataclasses.replace(fixed, swept=NOTHING), never)
    assert list(tried) == [large]
    assert result.metrics.operating_point is not None
    assert result.metrics.operating_point.tiles == large


def test_signs_of_life_are_given_wherever_it_may_take_long(task: TrainingTask) -> None:
    signs: list[tuple[str, int, int]] = []

    def alive(done: int = 0, total: int = 0, what: Activity = "training") -> None:
        signs.append((what, done, total))

    def of_epochs(name: str, **changes: Any) -> list[list[tuple[str, int, int]]]:
        """The signs that are given before each epoch is reported."""
        signs.clear()
        config = {"epochs": 2, "batch_size": 16, "warmup_epochs": 0.5}
        watched = dataclasses.replace(variant(task, name, **config), alive=alive, **changes)
        given = []
        for _ in train(watched, never):
            given.append(signs.copy())
            signs.clear()
        return given

    def counted(what: str, total: int, step: int = 1) -> list[tuple[str, int, int]]:
        return [(what, done, total) for done in range(step, total + 1, step)]

    first, last = of_epochs("watched", cache_dir=task.cache_dir.with_name("watched-cache"))
    batches = counted("training", 3) + counted("evaluating", 16, step=16)
    assert first == counted("reading", 48) + counted("reading", 16) + batches + counted("sweeping", 1)
    assert last == batches + counted("sweeping", len(NMS_IOUS))
    cuts = tuple(Tiles(size=size) for size in (0, 64, 96))
    nms = ("greedy", "soft-linear", "none")
    swept = of_epochs("watched-cuts", cache_dir=task.cache_dir, swept=Swept(tiles=cuts, nms=nms, nms_iou=(0.5, 0.6)))
    rows = counted("sweeping", 2 * len(nms_grid(0.5, 0.6)) + 1)  # of no suppression there is one
    want = counted("training", 3)
    for cut in cuts:
        want += counted("evaluating", 16 * len(windows_of(160, 120, cut)), step=16) + rows
    assert swept[-1] == want


def test_a_copy_of_a_task_for_another_process_gives_no_signs_of_life(task: TrainingTask) -> None:
    watched = dataclasses.replace(task, alive=lambda: None)
    copy = pickle.loads(pickle.dumps(watched))
    assert copy == watched
    assert copy.alive is silent


def test_measures_what_the_study_asks_for(task: TrainingTask, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []
    real = judging.measure_cost

    def counted(*arguments: Any) -> Any:
        measured.append(real(*arguments))
        return measured[-1]

    monkeypatch.setattr(latency, "SECONDS", 0.0)
    monkeypatch.setattr(judging, "measure_cost", counted)
    criterion = "recall@precision=0.1"
    asked = dataclasses.replace(variant(task, "asked"), criteria=(criterion,), measure_cost=True)
    results = list(train(asked, never))
    # After the first epoch, for those that are pruned, and after the last.
    assert [r.metrics.cost for r in results] == [measured[0], measured[0], measured[1]]
    cost = results[-1].metrics.cost
    assert cost is not None
    assert cost.latency_ms > 0
    assert (cost.single.batch_size, cost.batch.batch_size) == (1, task.config.batch_size)
    assert all(set(r.metrics.criteria) == {criterion} for r in results)
    assert results[-1].metrics.count_mae is not None
    plain = list(train(variant(task, "plain"), never))
    assert [r.metrics.map for r in plain] == [r.metrics.map for r in results]
    assert plain[-1].metrics.cost is None


def test_divergence_has_its_kind(task: TrainingTask) -> None:
    # A decay of 1 at a rate of 10 multiplies the weights by -9 at each step.
    steep = {"optimizer": "sgd", "learning_rate": 10.0, "weight_decay": 1.0, "schedule": "constant"}
    wild = variant(task, "wild", batch_size=1, epochs=12, **steep)
    with pytest.raises(Diverged, match="loss became"):
        list(train(wild, never))


def test_missing_weights_are_a_config_error(task: TrainingTask) -> None:
    lost = variant(task, "lost", model="dense-shufflenet", weights="/nowhere/weights.pth")
    with pytest.raises(BadConfig, match=r"no file /nowhere/weights\.pth"):
        list(train(lost, never))


def test_missing_data_is_a_data_error(task: TrainingTask) -> None:
    gone = dataclasses.replace(task, data=task.data.model_copy(update={"train": Path("gone.json")}))
    with pytest.raises(BadData, match=r"gone\.json"):
        list(train(gone, never))


def test_an_image_that_breaks_in_mid_study_is_named(tmp_path: Path) -> None:
    data = scenes.generate(tmp_path, train=4, val=2, test=1, size=(64, 48))
    config = resolve_anchors(TrialConfig(image_size=64, epochs=1), load_dataset(data).train)
    task = TrainingTask(config, 0, data, "cpu", 1, workdir=tmp_path / "0", cache_dir=tmp_path / "cache")
    assert len(list(train(task, never))) == 1
    broken = sorted((tmp_path / "images").glob("*train*"))[0]
    broken.write_bytes(broken.read_bytes()[:100])
    with pytest.raises(BadData, match=re.escape(broken.name)):
        list(train(variant(task, "1", image_size=96), never))  # decoded anew at its size


def test_begins_with_the_micro_batch_that_is_known_to_fit(task: TrainingTask) -> None:
    known = dataclasses.replace(variant(task, "known", epochs=1, warmup_epochs=0.0), micro_batch=3)
    (result,) = train(known, never)
    assert result.executed["micro_batch"] == "3"
    assert task.config.batch_size > 3
