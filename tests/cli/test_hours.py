"""`tuner run --hours`, with real worker processes and a fake trainer."""

import json
import re
import signal
import time

import pytest
from sqlalchemy import update

from tests.cli.project import LIMIT, Project, until
from tuner.cli.options import device_of
from tuner.config.errors import ConfigError
from tuner.storage.tables import AttemptRow
from tuner.studies.opening import open_study


@pytest.mark.usefixtures("no_database")
def test_a_study_is_laid_out_for_its_hours_searched_and_confirmed(
    project: Project,
    capsys: pytest.CaptureFixture[str],
) -> None:
    project.write(pruner={"name": "promote"}, defaults={"epochs": 9, "image_size": 64}, slots=2)
    hours = ("--hours", "0.03", "--trials", "9")
    out = project.run(*hours, "--dry-run", "--json")
    plan = json.loads(out[: out.rindex("}") + 1])["plan"]
    assert (plan["hours"], plan["slots"], plan["trials"]) == (0.03, 2, 9)
    assert 0.04 < plan["epoch_seconds"] < 2
    assert plan["search_seconds"] + plan["confirm_seconds"] < 0.03 * 3600
    assert not (project.folder / "tuner.db").exists()

    out = project.run(*hours)
    assert "plan       0.03 hours, 2 trials at the same time" in out
    assert "Confirming the best" in out
    assert "better than the default" in out
    assert out.count("Next:") == 1
    assert out.index("confirmed  ") < out.index("Next: tuner export")
    trials = project.trials()
    assert len(trials) == 9
    epochs = max(len(trial["epochs"]) for trial in trials)
    assert {len(trial["epochs"]) for trial in trials if trial["state"] == "complete"} == {epochs}

    # The plan stays with the study: nothing is timed, trained or confirmed again.
    out = project.run("--hours", "0.03", "--trials", "9")
    assert "Timing" not in out
    assert "better than the default" in out
    out = project.main(capsys, "run", "study.yaml", "--dry-run")
    assert "plan       0.03 hours" in out
    assert f"{epochs} epochs at most" in out
    assert project.trials() == trials


def test_the_time_of_a_plan_is_not_spent_on_an_abandoned_confirmation(project: Project) -> None:
    project.write(defaults={"epochs": 4, "image_size": 64})
    hours = ("--hours", "0.05", "--trials", "3", "--epochs", "4")
    project.run("--trials", "3")
    project.misbehave(all={"seconds": 2.0})
    confirm = ("confirm", "cells", "--trainer", "fake_trainer:train")
    project.call(*confirm, "--top", "2", "--seeds", "30", "--timeout", "1s")
    project.misbehave()
    out = project.run(*hours)
    assert "runs of an earlier request are left; `tuner confirm cells --top 2 --seeds 30" in out
    assert "better than the default" in out
    assert "are to come" not in out
    starts = len(list(project.folder.rglob("starts.txt")))
    assert starts <= 3 + 3 * 3 + 2  # two of the abandoned runs may have begun
    # What is there is neither trained again nor hidden by a smaller confirmation.
    assert "better than the default" in project.run(*hours)
    assert len(list(project.folder.rglob("starts.txt"))) == starts


def test_a_search_whose_time_is_up_is_not_begun_again_but_with_more_hours(project: Project) -> None:
    project.write(defaults={"epochs": 4, "image_size": 64})
    hours = ("--hours", "0.01", "--trials", "2")
    process = project.start_run(*hours)
    until(process, r"trial 0 . epoch 1/")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=LIMIT)
    study = open_study("cells", project.storage)
    with study.database.engine.begin() as connection:  # its first attempt began an hour ago
        connection.execute(update(AttemptRow).values(started_at=AttemptRow.started_at - 3600))
    study.close()
    before = project.trials()
    out = project.run(*hours)
    assert "The time of the search is up; a larger --hours goes on with it." in out
    assert "not confirmed: " in out
    assert [trial["state"] for trial in project.trials()] == [trial["state"] for trial in before]
    out = project.run("--hours", "1.1", "--trials", "2")
    assert "2 complete" in out


def test_a_search_that_its_plan_ends_is_confirmed_although_the_run_has_a_longer_limit(project: Project) -> None:
    hours = ("--hours", "0.006", "--trials", "12", "--epochs", "4")
    project.misbehave(all={"seconds": 0.1})
    project.run(*hours, "--timeout", "1s")
    project.misbehave(all={"seconds": 10.0})  # longer than planned, so that the time is up amid a trial
    out = project.run(*hours, "--timeout", "1h")
    assert "A larger --hours goes on with the search." in out
    assert re.search(r"not confirmed: |Confirming the best", out)


def test_the_limit_of_a_run_holds_for_the_confirmation_too(project: Project) -> None:
    hours = ("--hours", "0.1", "--trials", "2", "--epochs", "4")
    project.misbehave(all={"seconds": 10.0})
    project.run(*hours, "--timeout", "1s")
    project.misbehave()
    project.call("worker", "--study", "cells", "--trainer", "fake_trainer:train")
    project.misbehave(all={"seconds": 60.0})
    out = project.run(*hours, "--timeout", "5s")
    assert "Confirming the best 1" in out
    assert "The confirmation is not finished" in out


def test_what_comes_next_is_said_last_and_which_trials_count(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    out = project.run("--hours", "0.02", "--trials", "1")  # nothing beside the default to confirm
    assert out.index("budget is spent") < out.index("not confirmed: ") < out.index("Next:")
    said = "The budget is the plan's, 1 trial, not the study file's 4; --trials N changes it."
    assert said not in out
    assert said in project.main(capsys, "run", "study.yaml", "--dry-run")
    assert said not in project.main(capsys, "run", "study.yaml", "--dry-run", "--trials", "2")
    # An epoch takes as long as it does while all slots work: it is timed again for another number of them.
    assert "Timing" not in project.run("--hours", "0.03", "--trials", "1", "--slots", "1", "--dry-run")
    assert "Timing" in project.run("--hours", "0.02", "--trials", "1", "--slots", "2", "--dry-run")
    project.write(budget={})
    assert "The budget is the plan's" not in project.main(capsys, "run", "study.yaml", "--dry-run")


def test_f1_is_known_after_each_epoch_and_planned_with_pruning(project: Project) -> None:
    project.write(pruner={"name": "promote"}, defaults={"epochs": 9, "image_size": 64}, objective={"metric": "f1"})
    out = project.run("--hours", "0.1", "--trials", "9", "--epochs", "9", "--dry-run")
    (epochs,) = re.findall(r"about (\d+) epochs", out)
    assert int(epochs) < 81


def test_points_are_checked_against_the_planned_epochs(project: Project) -> None:
    """Two trials and an hour: epochs are what the plan has left to give, so that it gives more than the file's four."""
    project.write(space={"warmup_epochs": {"type": "float", "low": 0, "high": 6}})
    (project.folder / "points.yaml").write_text("- {warmup_epochs: 5}")
    point = ("--enqueue", "points.yaml", "--trials", "2")
    assert "longer than the training of 4 epochs" in project.run(*point, "--dry-run", code=1)
    assert "2 trials of up to 12 epochs" in project.run(*point, "--hours", "1", "--dry-run")
    out = project.run(*point, "--hours", "1")
    assert "1 of 1 points are trained first" in out
    assert project.trials()[1]["params"] == {"warmup_epochs": 5.0}


@pytest.mark.usefixtures("no_database")
def test_hours_that_are_too_few(project: Project) -> None:
    assert "0.0001 hours are too little: an epoch takes" in project.run("--hours", "0.0001", code=1)
    assert not (project.folder / "tuner.db").exists()
    for hours in ("0", "inf", "nan"):
        assert f"--hours {hours}: expected more than 0" in project.run("--hours", hours, "--dry-run", code=1)


def test_a_default_config_that_cannot_be_trained_cannot_be_timed(project: Project) -> None:
    out = project.call("run", "study.yaml", "--hours", "1", "--trainer", "odd_trainers:dies", code=1)
    assert "the trial process that should time an epoch died (exit code 7)" in out


@pytest.mark.usefixtures("no_database")
def test_an_epoch_that_is_timed_in_vain_leaves_nothing_behind(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = project.folder / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    process = project.start_run("--hours", "1")
    while not (found := list(temporary.glob("tuner-timing-*"))):
        time.sleep(0.01)
    (found[0] / "plan.json").write_text(json.dumps({"*": {"seconds": 300}}))
    while not list(found[0].glob("slot-*/worked.txt")):
        time.sleep(0.05)
    process.terminate()
    out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 130, out + err
    assert not list(temporary.iterdir())
    assert not (project.folder / "tuner.db").exists()


@pytest.mark.parametrize(
    ("gpus", "device"), [("4", "cuda:0,1,2,3"), ("1", "cuda:0"), ("0,1,3", "cuda:0,1,3"), ("2,", "cuda:2")]
)
def test_how_many_gpus_or_which(gpus: str, device: str) -> None:
    assert device_of(None, gpus) == device
    with pytest.raises(ConfigError, match="give one of them"):
        device_of("cpu", gpus)
