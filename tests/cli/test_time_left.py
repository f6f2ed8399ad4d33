"""How long a study still takes, by its own clock."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cli.project import Project
from tests.studies.study_cases import WORKER, result
from tuner.cli.time_left import TimeLeft, epochs_to_come
from tuner.config.load import load_study_spec
from tuner.studies.opening import create_or_open


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("time.monotonic", clock)
    return clock


def after(clock: Clock, left: TimeLeft, *ends: float) -> None:
    """Epochs of 4 s that ended at these times."""
    for end in ends:
        clock.now = 1000.0 + end
        left.epoch_ended(4.0)


def test_starting_processes_is_not_taken_for_a_part_of_epochs(clock: Clock) -> None:
    left = TimeLeft(12, None)
    assert left.seconds() is None
    after(clock, left, 30.0, 30.0)  # two slots
    assert left.seconds() == 10 * 2.0
    after(clock, left, 34.0, 35.0)
    assert left.seconds() == pytest.approx(8 * 9 / 4)


def test_an_epoch_that_lasts_adds_nothing_and_the_last_one_leaves_nothing(clock: Clock) -> None:
    left = TimeLeft(3, None)
    after(clock, left, 4.0)
    found = []
    for second in range(5, 30):
        clock.now = 1000.0 + second
        found.append(left.seconds())
    assert found == sorted(found, reverse=True)
    assert found[-1] == 4.0  # the second epoch is due, the third takes as long
    after(clock, left, 40.0, 44.0, 48.0)  # one more than was expected
    assert left.seconds() == 0.0


def test_what_comes_first_is_the_end(clock: Clock) -> None:
    left = TimeLeft(100, 60.0)
    after(clock, left, 4.0)
    assert left.seconds() == 56.0
    left.spare(98)
    assert left.seconds() == 4.0
    clock.now += 60.0
    assert left.seconds() == 0.0
    assert TimeLeft(None, None).seconds() is None


@pytest.mark.parametrize(
    ("changes", "epochs"),
    [
        ({"pruner": {"name": "none"}, "budget": {"trials": 5}}, 5 * 9),
        # The default config in full; 8 others to epoch 3, of which a third goes on.
        ({"pruner": {"name": "promote"}, "budget": {"trials": 9}}, 9 + 8 * 3 + 8 / 3 * 6),
        ({"pruner": {"name": "none"}, "budget": {"trials": 5, "epochs": 20}}, 20),
        ({"budget": {"trials": None, "wall_time": "1h"}}, None),
    ],
)
def test_what_is_to_come_is_what_the_pruner_is_expected_to_let_run(
    project: Project, changes: dict[str, Any], epochs: float | None
) -> None:
    project.write(defaults={"epochs": 9, "image_size": 64}, **changes)
    study = create_or_open(load_study_spec(project.folder / "study.yaml", {"storage": project.storage}))
    assert epochs_to_come(study, study.summary()) == (None if epochs is None else pytest.approx(epochs))
    if epochs is not None:
        assignment = study.next_trial(WORKER)
        assert assignment is not None
        study.report(assignment, result(1, 0.25))
        assert epochs_to_come(study, study.summary()) == pytest.approx(epochs - 1)
    study.close()
