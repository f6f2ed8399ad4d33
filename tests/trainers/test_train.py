"""The built-in trainer on real pixels: it learns, it resumes bit for bit, and its failures have kinds."""

from __future__ import annotations

import contextlib
import dataclasses
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tuner.config.trial import WHOLE, Augment, Tiles, TrialConfig
from tuner.data import cache, scenes
from tuner.data.coco import load_dataset
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
    DiskFull,
    Diverged,
    EpochResult,
    Interrupted,
    LostState,
    TrainingTask,
    silent,
)
from tuner.trainers.detection import checkpoint, cost, judging
from tuner.trainers.detection.train import train


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scenes")


@pytest.fixture(scope="module")
def task(folder: Path) -> TrainingTask:
    data = scenes.generate(folder, train=48, val=16, test=4, size=(160, 120), seed=1)
    config = TrialConfig(image_size=160, epochs=3, anchors="kmeans-iou-balanced-1", warmup_epochs=0.5, ema_decay=0.9)
    config = resolve_anchors(config, load_dataset(data).train)
    return TrainingTask(
        config=config,
        seed=3,
        data=data,
        device="cpu",
        threads=1,
        workdir=folder / "trial",
        cache_dir=folder / "cache",
    )


def never() -> bool:
    return False


def variant(task: TrainingTask, name: str, **changes: object) -> TrainingTask:
    """The task in a folder of its own, with another config."""
    config = task.config.model_copy(update=changes)
    return dataclasses.replace(task, workdir=task.workdir.with_name(name), config=config)


def comparable(results: list[EpochResult]) -> list[tuple[object, ...]]:
    """What must be equal between an interrupted and an undisturbed run: everything but time and memory.

    The epoch that ends with a checkpoint comes again when training goes on: it must be the same.
    """
    seen: dict[int, tuple[object, ...]] = {}
    for r in results:
        row = (r.epoch, r.metrics, r.losses, r.learning_rate, r.executed)
        assert seen.setdefault(r.epoch, row) == row
    return list(seen.values())


def weights(task: TrainingTask) -> dict[str, torch.Tensor]:
    state = checkpoint.load(task.workdir / checkpoint.CHECKPOINT)
    assert state is not None
    model: dict[str, torch.Tensor] = state["model"]
    return model


def assert_same_weights(a: TrainingTask, b: TrainingTask) -> None:
    first, second = weights(a), weights(b)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def undisturbed(task: TrainingTask) -> tuple[TrainingTask, list[EpochResult]]:
    whole = variant(task, "whole")
    return whole, list(train(whole, never))


def test_learns(task: TrainingTask) -> None:
    changes = {"epochs": 36, "batch_size": 4, "learning_rate": 3e-3, "augment": Augment(strength=0.1, mosaic=0.0)}
    results = list(train(variant(task, "learner", **changes), never))
    assert [r.epoch for r in results] == list(range(1, 37))
    assert results[0].metrics.map is not None
    assert results[-1].metrics.map is not None
    assert results[0].metrics.map < 0.05
    assert results[-1].metrics.map > 0.25
    assert sum(results[-1].losses.values()) < 0.7 * sum(results[0].losses.values())
    assert results[-1].metrics.operating_point is not None
    assert results[-1].metrics.operating_point.f1 > 0.5


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
    signs = 0

    def alive() -> None:
        nonlocal signs
        signs += 1

    def of_epochs(name: str, **changes: Any) -> list[int]:
        """The signs that are given before each epoch is reported."""
        nonlocal signs
        signs = 0
        config = {"epochs": 2, "batch_size": 16, "warmup_epochs": 0.5}
        watched = dataclasses.replace(variant(task, name, **config), alive=alive, **changes)
        before, given = 0, []
        for _ in train(watched, never):
            given.append(signs - before)
            before = signs
        return given

    batches = 3 + 1  # of training, and of validation
    first, last = of_epochs("watched", cache_dir=task.cache_dir.with_name("watched-cache"))
    assert first == 48 + 16 + batches + 1  # each image that is cached, and the one suppression that is judged
    assert last == batches + len(NMS_IOUS)
    cuts = tuple(Tiles(size=size) for size in (0, 64, 96))
    nms = ("greedy", "soft-linear")
    swept = of_epochs("watched-cuts", cache_dir=task.cache_dir, swept=Swept(tiles=cuts, nms=nms, nms_iou=(0.5, 0.6)))
    batches = sum(len(windows_of(160, 120, cut)) for cut in cuts)  # of as many windows as there are images
    assert swept[-1] == 3 + batches + len(cuts) * len(nms) * len(nms_grid(0.5, 0.6))


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


def test_leaves_detections_and_a_checkpoint_without_code(
    undisturbed: tuple[TrainingTask, list[EpochResult]],
) -> None:
    task, results = undisturbed
    assert sorted(path.name for path in task.workdir.iterdir()) == [DETECTIONS, checkpoint.CHECKPOINT]
    assert len(Detections.load(task.workdir / DETECTIONS).offsets) == 16 + 1
    assert results[-1].cpu_seconds > 0
    assert results[-1].peak_memory > 2**20
    assert results[-1].executed["precision"] in ("fp32", "bf16")


@pytest.mark.parametrize("batches", [1, 6, 9])
def test_interrupted_ends_bit_for_bit_where_the_undisturbed_one_does(
    undisturbed: tuple[TrainingTask, list[EpochResult]], batches: int
) -> None:
    whole, expected = undisturbed
    task = dataclasses.replace(whole, workdir=whole.workdir.with_name(f"stopped-{batches}"))
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > batches

    results: list[EpochResult] = []
    with pytest.raises(Interrupted):
        results.extend(train(task, stop))  # extend keeps what came before the exception
    torch.manual_seed(999)  # another process has another random state
    results += list(train(task, never))
    assert comparable(results) == comparable(expected)
    assert_same_weights(task, whole)


def test_a_finished_training_yields_its_last_epoch_again(undisturbed: tuple[TrainingTask, list[EpochResult]]) -> None:
    whole, expected = undisturbed
    assert comparable(list(train(whole, never))) == comparable(expected)[-1:]


def test_pruned_then_continued_is_the_same_run(undisturbed: tuple[TrainingTask, list[EpochResult]]) -> None:
    whole, expected = undisturbed
    task = dataclasses.replace(whole, workdir=whole.workdir.with_name("pruned"))
    epochs = train(task, never)
    results = [next(epochs)]
    epochs.close()
    assert (task.workdir / DETECTIONS).exists()
    results += list(train(task, never))
    assert comparable(results) == comparable(expected)


def test_what_cannot_be_saved_ends_a_trial_and_hides_no_other_reason(task: TrainingTask) -> None:
    task = variant(task, "unwritable")
    stop = False
    epochs = train(task, lambda: stop)
    next(epochs)
    (task.workdir / DETECTIONS).unlink()
    (task.workdir / DETECTIONS).mkdir()
    stop = True
    with pytest.raises(Interrupted):
        next(epochs)
    with pytest.raises(DiskFull, match=rf"{DETECTIONS} cannot be written: Is a directory"):
        next(train(dataclasses.replace(task, first_epoch=2), never))
    assert sorted(path.name for path in task.workdir.iterdir()) == [DETECTIONS, checkpoint.CHECKPOINT]


def test_an_epoch_that_arrived_is_not_judged_again(undisturbed: tuple[TrainingTask, list[EpochResult]]) -> None:
    whole, expected = undisturbed
    task = dataclasses.replace(whole, workdir=whole.workdir.with_name("arrived"))
    epochs = train(task, never)
    results = [next(epochs)]
    epochs.close()
    results += list(train(dataclasses.replace(task, first_epoch=2), never))
    assert [result.epoch for result in results] == [result.epoch for result in expected]
    assert comparable(results) == comparable(expected)


def test_killed_ends_bit_for_bit_where_the_undisturbed_one_does(
    undisturbed: tuple[TrainingTask, list[EpochResult]],
) -> None:
    whole, expected = undisturbed
    task = dataclasses.replace(whole, workdir=whole.workdir.with_name("killed"))
    code = (
        "import sys; from pathlib import Path; from tuner.config.study import DataSpec\n"
        "from tuner.config.trial import TrialConfig; from tuner.trainers.contract import TrainingTask\n"
        "from tuner.trainers.detection.train import train\n"
        "config, data, workdir, cache = sys.argv[1:]\n"
        "config, data = TrialConfig.model_validate_json(config), DataSpec.model_validate_json(data)\n"
        "task = TrainingTask(config, 3, data, 'cpu', 1, Path(workdir), Path(cache))\n"
        "for result in train(task, lambda: False): pass\n"
    )
    arguments = [task.config.model_dump_json(), task.data.model_dump_json(), str(task.workdir), str(task.cache_dir)]
    process = subprocess.Popen([sys.executable, "-c", code, *arguments])
    saved = task.workdir / checkpoint.CHECKPOINT
    while not saved.exists():
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    results = list(train(task, never))
    assert comparable(results) == comparable(expected)[-len(results) :]
    assert_same_weights(task, whole)


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


def test_the_checkpoint_of_another_experiment_is_refused(undisturbed: tuple[TrainingTask, list[EpochResult]]) -> None:
    whole, _ = undisturbed
    with pytest.raises(BadConfig, match="another config or seed"):
        list(train(dataclasses.replace(whole, seed=4), never))


def test_a_checkpoint_that_this_code_cannot_go_on_from_is_refused(
    undisturbed: tuple[TrainingTask, list[EpochResult]], tmp_path: Path
) -> None:
    whole, _ = undisturbed
    for change in ({"detector": {"other.weight": torch.zeros(1)}}, {"optimizer": {}}):
        torch.save(
            torch.load(whole.workdir / checkpoint.CHECKPOINT, weights_only=True) | change,
            tmp_path / checkpoint.CHECKPOINT,
        )
        with pytest.raises(BadConfig, match=r"does not fit this one: .*\nGo on with the version that began") as refused:
            list(train(dataclasses.replace(whole, workdir=tmp_path), never))
        assert len(str(refused.value).splitlines()) == 2


def test_a_checkpoint_that_was_cut_off_is_named_and_the_next_attempt_begins_again(
    undisturbed: tuple[TrainingTask, list[EpochResult]],
) -> None:
    whole, results = undisturbed
    cut = variant(whole, "cut")
    training = train(cut, never)
    next(training)
    training.close()
    file = cut.workdir / checkpoint.CHECKPOINT
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(LostState, match=r"last\.pt was cut off and is now last\.damaged; the trial begins again"):
        list(train(cut, never))
    again = dataclasses.replace(cut, first_epoch=2)
    assert comparable(list(train(again, never))) == comparable(results)
    assert_same_weights(again, whole)


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
