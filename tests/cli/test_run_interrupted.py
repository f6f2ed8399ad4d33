"""Studies through the command line that signals, kills and time limits end, and the same command goes on with."""

import signal
from typing import Any

import pytest

from tests.cli.project import LIMIT, Project, check_curves, kill, until
from tuner.studies.deleting import delete_study
from tuner.workers.limits import DEFAULT_TIMING


def without_run(trials: list[dict[str, Any]]) -> list[Any]:
    """What must not depend on interruptions."""
    return [(t["number"], t["state"], t["params"], [e["metrics"] for e in t["epochs"]]) for t in trials]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_the_same_command_goes_on(project: Project, number: signal.Signals) -> None:
    project.write(slots=2)
    project.misbehave(all={"seconds": 0.2})
    process = project.start_run()
    read = until(process, r"epoch 2/4")
    process.send_signal(number)
    if number == signal.SIGTERM:  # batch systems send it several times
        process.send_signal(number)
    out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 130, read + out + err
    assert "Traceback" not in err
    assert "same command goes on" in out
    assert "saving the running trials" in out
    interrupted = project.trials()
    assert any(trial["state"] == "interrupted" for trial in interrupted)
    assert all(trial["attempts"][-1]["outcome"] for trial in interrupted)
    project.misbehave()
    out = project.run()
    assert "goes on at epoch" in out
    assert "left 0 s" not in out
    trials = project.trials()
    check_curves(trials)
    assert len(trials) == 4
    assert any(len(trial["attempts"]) == 2 for trial in trials)


def test_an_interrupted_study_ends_like_an_undisturbed_one(project: Project) -> None:
    project.run()
    undisturbed = without_run(project.trials())
    delete_study("cells", project.storage)
    project.misbehave(all={"seconds": 0.1})
    for text in ("trial 0 · epoch 3", "trial 2 · epoch 1"):  # in the second, after going on with trial 0
        process = project.start_run()
        until(process, text)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    project.run()
    assert without_run(project.trials()) == undisturbed


def test_a_second_interrupt_ends_at_once_even_what_hangs(project: Project) -> None:
    project.misbehave(all={"action": "hang", "epoch": 2})
    process = project.start_run()
    until(process, r"epoch 1/4")
    process.send_signal(signal.SIGINT)
    until(process, r"saving the running trials")  # two signals of which neither was heeded yet are one
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=DEFAULT_TIMING.stop_grace - 5)  # without the second one it would wait for the trials
    assert process.returncode == 130
    assert {trial["state"] for trial in project.trials()} == {"interrupted"}
    project.misbehave()
    project.run()
    check_curves(project.trials())


def test_a_killed_slot_costs_neither_its_trial_nor_the_others(project: Project) -> None:
    project.write(slots=2)
    project.misbehave(trial1={"action": "sigkill", "epoch": 3, "times": 1})
    out = project.run()
    assert "SIGKILL" in out
    trials = project.trials()
    check_curves(trials)
    assert {trial["state"] for trial in trials} == {"complete"}
    assert len(trials[1]["attempts"]) == 2


def test_a_killed_worker_leaves_its_trials_to_the_next(project: Project) -> None:
    project.write(slots=2)
    project.misbehave(all={"seconds": 0.2})
    process = project.start_run()
    until(process, r"epoch 2/4")
    kill(process)
    project.misbehave()
    project.run()
    trials = project.trials()
    check_curves(trials)
    assert len(trials) == 4
    assert any(attempt["outcome"] == "lost" for trial in trials for attempt in trial["attempts"])


def test_the_time_is_up(project: Project) -> None:
    project.misbehave(all={"seconds": 2.0})
    out = project.run("--timeout", "3s")
    assert "time is up" in out
    assert {trial["state"] for trial in project.trials()} & {"interrupted"}
    project.misbehave()
    project.run()
    check_curves(project.trials())


def test_a_run_that_gets_no_further_says_so(project: Project) -> None:
    project.misbehave(all={"seconds": 20.0})
    out = project.run("--timeout", "4s")
    assert "No epoch was finished in that time." in out
    project.misbehave()
    assert "No epoch" not in project.run()
