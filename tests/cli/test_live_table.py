"""The live table by itself: what a terminal of any width and height shows of it."""

import io

import pytest
from rich.console import Console

from tests.cli.project import Project
from tests.studies.study_cases import WORKER, result, train
from tuner.cli.live import LiveTable
from tuner.config.load import load_study_spec
from tuner.studies.opening import create_or_open
from tuner.studies.study import Study
from tuner.studies.trust.noise import plan_baseline
from tuner.workers.devices import SlotPlan, plan_slots
from tuner.workers.messages import Ended
from tuner.workers.observer import WorkerReport

ENDED = WorkerReport("interrupted", "", 0, 0, 0, 2, 1, 1.0, 1.0)


@pytest.fixture
def study(project: Project) -> Study:
    return create_or_open(load_study_spec(project.folder / "study.yaml", {"storage": project.storage}))


@pytest.fixture
def slots() -> list[SlotPlan]:
    return plan_slots("cpu", 2)


def drawn(table: LiveTable, width: int) -> str:
    screen = io.StringIO()
    Console(file=screen, width=width, color_system=None).print(table.render())
    return screen.getvalue()


@pytest.mark.parametrize("width", [30, 40, 60, 80, 200])
def test_what_a_terminal_has_no_room_for_is_left_out_and_nothing_is_cut(
    study: Study, slots: list[SlotPlan], width: int
) -> None:
    table = LiveTable(study, Console(file=io.StringIO(), width=width))
    for slot in slots:
        assignment = study.next_trial(WORKER)
        assert assignment is not None
        table.trial_started(assignment, slot)
    table.epoch_reported(assignment, result(2, 0.25))
    shown = drawn(table, width)
    rows = [line for line in shown.splitlines() if "│" in line]
    assert [row.split("│")[1].strip() for row in rows] == ["0", "1"]  # one line each
    assert "2/4" in rows[1]
    assert "0.2500" in rows[1]
    assert "…" not in shown
    assert ("slot 1" in rows[1]) == (width >= 60)
    assert shown.index("of 4 trials") < shown.index(rows[0])  # in sight where there are more slots than lines


def test_a_trial_that_goes_on_keeps_its_value_and_the_end_leaves_no_rows(study: Study, slots: list[SlotPlan]) -> None:
    screen = io.StringIO()
    table = LiveTable(study, Console(file=screen, width=120))
    assignment = study.next_trial(WORKER)
    assert assignment is not None
    table.trial_started(assignment, slots[0])
    table.epoch_reported(assignment, result(1, 0.125))
    study.report(assignment, result(1, 0.125))
    table.trial_ended(assignment, Ended("interrupted"))
    study.interrupt(assignment)
    for shown in (table, LiveTable(study, Console(file=screen, width=120))):
        again = study.next_trial(WORKER) if shown is not table else assignment
        assert again is not None
        shown.trial_started(again, slots[0])
        assert "0.1250" in drawn(shown, 120)
    table.worker_started(slots)
    table.worker_ended(ENDED)
    assert "0 of 4 trials" in screen.getvalue()
    assert "│" not in screen.getvalue()
    assert "ends in" not in screen.getvalue()
    study.close()


def test_repeats_of_the_default_config_stand_in_for_its_own_trial(study: Study, slots: list[SlotPlan]) -> None:
    assert study.next_trial(WORKER) is not None  # the default config, still running
    repeats = plan_baseline(study, 3)
    for value in (0.30, 0.32):
        run = repeats.next_trial(WORKER)
        assert run is not None
        train(repeats, run, value)
    table = LiveTable(study, Console(file=io.StringIO(), width=120))
    assignment = study.next_trial(WORKER)
    assert assignment is not None
    table.trial_started(assignment, slots[0])
    table.epoch_reported(assignment, result(4, 0.36))
    table.trial_ended(assignment, Ended("complete"))
    best = "best mAP: 0.3600 of trial 1, +0.0500, +16.1% against the mean of 2 runs of the default config"
    assert best in drawn(table, 120)
    study.close()
