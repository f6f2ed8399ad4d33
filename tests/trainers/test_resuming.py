"""A training that is interrupted, killed or pruned goes on from its checkpoint, bit for bit where it stopped."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.trainers.training_case import assert_same_weights, comparable, never, variant
from tuner.models.predictions import Detections
from tuner.trainers.contract import (
    CHECKPOINT,
    DETECTIONS,
    BadConfig,
    DiskFull,
    EpochResult,
    Interrupted,
    LostState,
    TrainingTask,
)
from tuner.trainers.detection.train import train


def test_leaves_detections_and_a_checkpoint_without_code(
    undisturbed: tuple[TrainingTask, list[EpochResult]],
) -> None:
    task, results = undisturbed
    assert sorted(path.name for path in task.workdir.iterdir()) == [DETECTIONS, CHECKPOINT]
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
    assert sorted(path.name for path in task.workdir.iterdir()) == [DETECTIONS, CHECKPOINT]


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
    saved = task.workdir / CHECKPOINT
    while not saved.exists():
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    results = list(train(task, never))
    assert comparable(results) == comparable(expected)[-len(results) :]
    assert_same_weights(task, whole)


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
            torch.load(whole.workdir / CHECKPOINT, weights_only=True) | change,
            tmp_path / CHECKPOINT,
        )
        with pytest.raises(BadConfig, match=r"does not fit this one: .*\nGo on with the version that began") as refused:
            list(train(dataclasses.replace(whole, workdir=tmp_path), never))
        assert len(str(refused.value).splitlines()) == 2


def test_a_checkpoint_that_cannot_be_read_now_is_kept_for_a_later_attempt(
    undisturbed: tuple[TrainingTask, list[EpochResult]],
) -> None:
    whole, _ = undisturbed
    task = variant(whole, "unreadable")
    file = task.workdir / CHECKPOINT
    file.mkdir(parents=True)  # which cannot be read as a file
    with pytest.raises(LostState, match=r"cannot be read: .*Is a directory.*; a later attempt may read it"):
        list(train(task, never))
    assert file.is_dir()


@pytest.mark.parametrize("how", ["cut", "flipped"])
def test_a_damaged_checkpoint_is_named_and_the_next_attempt_begins_again(
    undisturbed: tuple[TrainingTask, list[EpochResult]], how: str
) -> None:
    whole, results = undisturbed
    cut = variant(whole, how)
    training = train(cut, never)
    next(training)
    training.close()
    file = cut.workdir / CHECKPOINT
    content = bytearray(file.read_bytes())
    if how == "cut":
        del content[1000:]
    else:  # a bit of each byte of a part of a tensor: torch reads other numbers there, and says nothing
        middle = slice(len(content) // 2, len(content) // 2 + 64)
        content[middle] = bytes(byte ^ 0x40 for byte in content[middle])
    file.write_bytes(content)
    with pytest.raises(LostState, match=r"last\.pt was cut off or damaged and is now last\.damaged; training begins"):
        list(train(cut, never))
    again = dataclasses.replace(cut, first_epoch=2)
    assert comparable(list(train(again, never))) == comparable(results)
    assert_same_weights(again, whole)
