"""The live table by itself: what a terminal of any width and height shows of it."""

import dataclasses
import io

import pytest
from rich.console import Console

from tests.cli.project import Project
from tests.studies.study_cases import WORKER, result, train
from tuner.cli import common
from tuner.cli.live import LiveTable
from tuner.cli.plain import PlainLog
from tuner.config.load import load_study_spec
from tuner.studies.opening import create_or_open
from tuner.studies.study import Study
from tuner.studies.trust.noise import plan_baseline
from tuner.workers.devices import SlotPlan, plan_slots
from tuner.workers.messages import Alive, Ended
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
    assert ("slot 1" in rows[1]) == (width >= 80)
    assert shown.index("of 4 trials") < shown.index(rows[0])  # in sight where there are more slots than lines


@pytest.mark.parametrize("width", [30, 60, 80, 200])
def test_it_shows_how_far_an_epoch_is(study: Study, slots: list[SlotPlan], width: int) -> None:
    table = LiveTable(study, Console(file=io.StringIO(), width=width))
    assignment = study.next_trial(WORKER)
    assert assignment is not None
    table.trial_started(assignment, slots[0])
    table.epoch_reported(assignment, result(1, 0.25))
    assert "now" not in drawn(table, width)  # a trainer that never says it
    for sign, text in ((Alive(5, 8, "reading"), "reading 62%"), (Alive(999, 1000), "training 99%")):
        table.trial_alive(assignment, sign)
        shown = drawn(table, width)
        assert (text in shown) == (width >= 60)
        assert "…" not in shown
        assert ("running" in shown) == (width >= 80)
    table.trial_alive(assignment, Alive(0, 8, "waiting"))
    assert ("waiting " in drawn(table, width)) == (width >= 60)
    before = len(shown.splitlines()[-1])
    table.epoch_reported(assignment, result(2, 0.25))
    shown = drawn(table, width)
    assert "training" not in shown
    assert len(shown.splitlines()[-1]) == before  # the table keeps its form
    study.close()


def test_times_left_do_not_grow_while_one_waits(
    study: Study, slots: list[SlotPlan], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    table = LiveTable(study, Console(file=io.StringIO(), width=200))
    table.worker_started(slots)
    first, second = study.next_trial(WORKER), study.next_trial(WORKER)
    assert first is not None
    assert second is not None
    for assignment, slot in zip((first, second), slots, strict=True):
        table.trial_started(assignment, slot)
    assert (table.running[1].seconds_left(), table.seconds_left()) == (None, None)
    clock[0] = 100.0
    lasting = dataclasses.replace(result(1, 0.25), train_seconds=90.0, eval_seconds=0.0)
    table.epoch_reported(first, lasting)
    table.epoch_reported(second, lasting)
    # The second trial has three epochs to go, of 100 s with its start; the study fourteen of 90 s, two at a time.
    for seconds, of_trial, of_study in ((100.0, 300.0, 630.0), (130.0, 270.0, 600.0), (500.0, 200.0, 585.0)):
        clock[0] = seconds
        assert (table.running[1].seconds_left(), table.seconds_left()) == (of_trial, of_study)
    table.epoch_reported(second, result(4, 0.25))
    assert table.running[1].seconds_left() == 0.0
    table.worker_ended(ENDED)
    study.close()


def test_a_log_says_it_seldom(
    study: Study, slots: list[SlotPlan], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = PlainLog(study)
    assignment = study.next_trial(WORKER)
    assert assignment is not None
    log.trial_started(assignment, slots[0])
    capsys.readouterr()
    log.trial_alive(assignment, Alive(1, 4))
    assert not capsys.readouterr().out
    monkeypatch.setattr(common, "LINE_SECONDS", 0.0)
    log.trial_alive(assignment, Alive(2, 4))
    monkeypatch.undo()
    log.trial_alive(assignment, Alive(3, 4))
    said = capsys.readouterr().out
    assert said.endswith("trial 0 · 0/4 epochs done · training 50% (2 of 4)\n")
    assert len(said.splitlines()) == 1
    study.close()


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
