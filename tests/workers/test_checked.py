"""What a trainer reports is taken, or refused with the field, what was found and what was expected."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
from fake_trainer import result

from tuner.config.objective import COCO_NAMES
from tuner.config.study import DataSpec
from tuner.config.trial import TrialConfig
from tuner.evaluation.metrics import Metrics
from tuner.trainers.contract import Diverged, TrainingTask, TrialFailed
from tuner.workers.checked import checked

NAN_MAP = Metrics.model_construct(**dict.fromkeys(COCO_NAMES) | {"map": math.nan, "class_map": {}})


def task_in(folder: Path) -> TrainingTask:
    data = DataSpec(train=Path("a"), val=Path("b"))
    return TrainingTask(TrialConfig(epochs=3), 0, data, "cpu", 1, workdir=folder / "0", cache_dir=folder / "cache")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"train_seconds": math.nan}, TrialFailed, "train_seconds of epoch 2 is nan, expected a finite number of at"),
        ({"learning_rate": math.inf}, TrialFailed, "learning_rate of epoch 2 is inf, expected a finite number"),
        ({"eval_seconds": -1.0}, TrialFailed, "eval_seconds of epoch 2 is -1.0, expected a finite number of at least"),
        ({"cpu_seconds": None}, TrialFailed, "cpu_seconds of epoch 2 is None, expected a number"),
        ({"peak_memory": 2**63}, TrialFailed, f"peak_memory of epoch 2 is {2**63}, expected at most {2**63 - 1} bytes"),
        ({"peak_memory": 10**400}, TrialFailed, "peak_memory of epoch 2 is 10+, expected a number"),
        ({"losses": {"box": "a"}}, TrialFailed, r"losses\['box'\] of epoch 2 is 'a', expected a number"),
        ({"losses": None}, TrialFailed, "losses of epoch 2 is None, expected a mapping"),
        ({"metrics": {"map": 0.5}}, TrialFailed, "metrics of epoch 2 is dict, expected Metrics"),
        ({"metrics": Metrics(map=55.3)}, TrialFailed, r"metrics\.map of epoch 2 is 55\.3, expected a share from 0"),
        ({"metrics": Metrics(map=0.5, map_small=-1)}, TrialFailed, "map_small of epoch 2 is -1.0, .* or None where it"),
        ({"metrics": Metrics(map=0.5, class_map={"a": -1})}, TrialFailed, r"class_map\['a'\] of epoch 2 is -1\.0, exp"),
        ({"metrics": NAN_MAP}, Diverged, "metrics.map: should be a finite number, found nan"),
        ({"epoch": 0}, TrialFailed, "epoch is 0 after 1, expected the whole number 2"),
        ({"epoch": -1}, TrialFailed, "epoch is -1 after 1, expected the whole number 2"),
        ({"epoch": 1}, TrialFailed, "epoch is 1 after 1, expected the whole number 2"),
        ({"epoch": 3}, TrialFailed, "epoch is 3 after 1, expected the whole number 2"),
        ({"epoch": 2.5}, TrialFailed, r"epoch is 2\.5 after 1, expected the whole number 2"),
    ],
)
def test_fields_are_checked(tmp_path: Path, changes: dict[str, Any], error: type[TrialFailed], message: str) -> None:
    task = task_in(tmp_path)
    good = result(task, 2, 0.5)
    assert checked(good, task, 1) == good
    with pytest.raises(error, match=message):
        checked(dataclasses.replace(good, **changes), task, 1)


@pytest.mark.parametrize(
    ("first", "previous", "epoch", "taken"),
    [
        (1, None, 2, False),  # a first attempt begins with 1
        (3, None, 1, True),  # there is no checkpoint here
        (3, None, 2, True),  # what the checkpoint ends with comes again
        (3, None, 3, True),
        (3, None, 4, False),
        (4, None, 3, True),  # all were reported: the last comes again
        (4, None, 4, False),  # beyond the length
        (1, 3, 4, False),
    ],
)
def test_epochs_come_in_order(tmp_path: Path, first: int, previous: int | None, epoch: int, *, taken: bool) -> None:
    task = dataclasses.replace(task_in(tmp_path), first_epoch=first)
    reported = result(task, epoch, 0.5)
    if taken:
        assert checked(reported, task, previous) == reported
    else:
        with pytest.raises(TrialFailed, match=f"epoch is {epoch} "):
            checked(reported, task, previous)
