"""Orders from outside, budgets and the choice of studies, with real processes and a fake trainer."""

import json
import re
import shlex
import time
from typing import Any

import optuna
import pytest

from tests.cli.project import LIMIT, Project, check_curves, until
from tuner.config.load import load_study_spec
from tuner.studies.opening import create_or_open, open_study
from tuner.studies.study import Study


def opened(project: Project) -> Study:
    return open_study("cells", project.storage)


def wait_for(project: Project, *states: str) -> list[dict[str, Any]]:
    """Until every trial has one of these states."""
    while True:
        trials = project.trials()
        if trials and all(trial["state"] in states for trial in trials):
            return trials
        time.sleep(0.1)


def test_pause_saves_and_waits_and_resume_goes_on(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.misbehave(all={"seconds": 2.0})
    process = project.start_run()
    until(process, r"epoch 1/4")
    assert "Paused study 'cells'" in project.main(capsys, "pause", "cells", "--reason", "the cluster is needed")
    wait_for(project, "interrupted", "complete")
    until(process, r"the study is paused: the cluster is needed")
    status = project.main(capsys, "status", "cells")
    assert "paused     the cluster is needed; go on: tuner resume cells" in status
    assert process.poll() is None
    project.misbehave()
    assert "Study 'cells' goes on with the workers that wait for it" in project.main(capsys, "resume", "cells")
    out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, out + err
    assert "the study goes on" in out
    trials = project.trials()
    check_curves(trials)
    assert [trial["state"] for trial in trials] == ["complete"] * 4
    assert "paused" not in project.main(capsys, "status", "cells")


def test_a_worker_that_waits_says_that_its_study_was_deleted(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.misbehave(all={"seconds": 2.0})
    process = project.start_run()
    until(process, r"epoch 1/4")
    project.main(capsys, "pause", "cells")
    assert "│ paused" in project.main(capsys, "list")
    until(process, r"the study is paused")
    wait_for(project, "interrupted", "complete")
    project.main(capsys, "delete", "cells", "--yes")
    out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 1, out + err
    assert "\nerror: study 'cells' was deleted\n" in err


def test_a_worker_whose_study_an_optuna_client_deletes_ends_like_one_whose_study_was_deleted(project: Project) -> None:
    project.misbehave(all={"seconds": 0.5})
    process = project.start_run()
    until(process, r"epoch 2/4")
    optuna.delete_study(study_name="cells", storage=project.storage)
    out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 1, out + err
    assert "error: study 'cells' was deleted\n" in err
    assert "Traceback" not in err
    assert "cannot be used" not in out + err


def test_a_full_disk_pauses_and_says_so_and_the_same_command_goes_on(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.misbehave(trial1={"action": "full disk", "epoch": 2})
    out = project.run(code=1)
    assert "The study is paused, because a disk is full or cannot be written." in out
    assert "Free space there, or mend what else is wrong; then the same command goes on with the study." in out
    status = project.main(capsys, "status", "cells")
    assert re.search(r"paused     \S+ cannot write: no space left .*; go on: tuner resume cells", status)
    project.misbehave()
    project.run()
    assert [trial["state"] for trial in project.trials()] == ["complete"] * 4
    project.misbehave(trial0={"action": "full disk", "epoch": 2})
    confirm = ("confirm", "cells", "--top", "1", "--seeds", "2", "--trainer", "fake_trainer:train")
    assert "cannot write: no space left" in project.call(*confirm, code=1)
    project.misbehave()
    assert "confirmed" in project.call(*confirm)


def test_stop_ends_all_workers_and_no_other_joins_until_run(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.misbehave(all={"seconds": 2.0})
    first = project.start_run()
    until(first, r"epoch 1/4")
    second = project.start("worker", "--trainer", "fake_trainer:train")
    until(second, r"epoch 1/4")
    project.main(capsys, "stop", "cells", "--reason", "enough")
    for process in (first, second):
        out, err = process.communicate(timeout=LIMIT)
        assert process.returncode == 0, out + err
        assert "Stopped by `tuner stop`" in out
        assert "enough" in out
    assert "interrupted" in {trial["state"] for trial in wait_for(project, "interrupted", "complete")}
    attempts = [attempt for trial in project.trials() for attempt in trial["attempts"]]
    assert "No study has budget left" in project.call("worker", "--trainer", "fake_trainer:train")
    assert "Stopped" in project.call("worker", "--study", "cells", "--trainer", "fake_trainer:train")
    assert attempts == [attempt for trial in project.trials() for attempt in trial["attempts"]]
    assert "study 'cells' is stopped" in project.main(capsys, "pause", "cells", code=1)
    project.misbehave()
    project.run()
    check_curves(project.trials())


def test_a_trial_is_stopped_alone(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.misbehave(trial1={"seconds": 1.0})
    process = project.start_run()
    until(process, r"trial 1 · epoch 1/4")
    assert "with the next heartbeat" in project.main(capsys, "stop", "cells", "1")
    out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, out + err
    trials = project.trials()
    assert [trial["state"] for trial in trials] == ["complete", "pruned", "complete", "complete"]
    assert trials[1]["reason"] == "stopped by hand"
    assert 1 <= len(trials[1]["epochs"]) < 4
    assert "has ended already" in project.main(capsys, "stop", "cells", "1", code=1)
    assert "has no trial 9" in project.main(capsys, "stop", "cells", "9", code=1)


def test_an_interrupted_trial_is_stopped_where_it_stands(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.misbehave(all={"seconds": 2.0})
    project.run("--timeout", "3s")
    assert project.trials()[0]["state"] == "interrupted"
    assert "has ended as pruned" in project.main(capsys, "stop", "cells", "0")
    assert project.trials()[0]["state"] == "pruned"


@pytest.mark.parametrize(
    ("budget", "said", "trials"),
    [
        ({"epochs": 6}, "8 of 6 epochs", 2),
        ({"cpu_hours": 0.06 / 3600}, r"of 1.67e-05 hours of CPU time", 2),
        ({"wall_time": "1s"}, r"minutes of wall time", 0),
    ],
)
def test_a_budget_ends_the_study_over_restarts_and_is_named(
    project: Project, budget: dict[str, Any], said: str, trials: int
) -> None:
    project.write(budget={"trials": None} | budget)
    out = project.run()
    assert re.search(rf"budget is spent \(.*{said}\)", out), out
    assert "cost " in out
    found = project.trials()
    check_curves(found)
    assert not trials or len(found) == trials
    assert re.search(said, project.run())
    assert len(project.trials()) == len(found)


def test_a_study_from_which_no_gain_is_expected_ends(project: Project) -> None:
    # The default learning rate is about the best there is, so hardly a trial gains anything.
    project.write(budget={"trials": 40, "no_gain": 3})
    out = project.run()
    assert "the last 3 trials raised the best value by" in out
    assert "within its noise" in out
    assert 4 <= len(project.trials()) < 40


def test_a_larger_budget_reaches_workers_that_run(project: Project) -> None:
    project.write(budget={"trials": 2})
    project.misbehave(all={"seconds": 0.3})
    process = project.start_run()
    until(process, r"trial 1 · epoch 1/4")
    project.write(budget={"trials": 4})
    project.create()
    project.misbehave()
    out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, out + err
    assert len(project.trials()) == 4


def test_a_wrong_database_is_named(project: Project, database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    typo = project.folder / "typo.db"
    for study in ([], ["--study", "cells"]):
        where = ("--storage", f"sqlite:///{typo}")
        assert f"error: there is no database at {typo}" in project.main(capsys, "worker", *study, *where, code=1)
    assert f"No studies in sqlite:///{typo}." in project.main(capsys, "status", *where)
    if not database_url.startswith("sqlite"):  # a server has an empty one before a study is begun
        out = project.call("worker", "--storage", database_url)
        assert re.search(r"No studies yet in (postgresql|mysql)\+.*/tuner_test_", out), out


def test_what_goes_on_without_a_worker_needs_one(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.create()
    project.main(capsys, "stop", "cells")
    said = project.main(capsys, "resume", "cells")
    worker = "`tuner worker --study cells`"
    assert said == f"Study 'cells' goes on once a worker is started: `tuner run` with its study file, or {worker}.\n"
    assert project.main(capsys, "resume", "cells") == said  # whatever was ordered before


def test_commands_that_are_proposed_name_the_database(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{project.folder}/another place/tuner.db"
    create_or_open(load_study_spec(project.folder / "study.yaml", {"storage": url})).close()
    project.write(defaults={"epochs": 5, "image_size": 64})

    def proposed(*arguments: str, code: int) -> list[str]:
        where = ("--storage", url)
        worker = arguments[0] == "worker"  # a process of its own, whose output capsys does not see
        said = project.call(*arguments, *where) if worker else project.main(capsys, *arguments, *where, code=code)
        return re.findall(rf"tuner (\w+ cells --storage '{re.escape(url)}')", said)

    commands = [
        *proposed("best", "cells", code=1),
        *proposed("export", "cells", "-o", "best.yaml", code=1),
        *(proposed("pause", "cells", code=0) + proposed("status", "cells", code=0)),
        *(proposed("worker", code=0) + proposed("stop", "cells", code=0) + proposed("pause", "cells", code=1)),
        *proposed("run", "study.yaml", "--dry-run", code=1),
    ]
    names = [command.split()[0] for command in commands]
    assert names == ["status", "status", "resume", "resume", "resume", "delete"]
    for command in dict.fromkeys(commands):  # as pasted into a shell
        project.main(capsys, *shlex.split(command), *(["--yes"] if command.startswith("delete") else []))


def test_a_worker_takes_studies_by_priority(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    studies = (("low", 0, "cpu"), ("paused", 7, "cpu"), ("high", 5, "cpu"), ("gpu", 4, "cuda:99"), ("moved", 9, "cpu"))
    for name, priority, device in studies:
        project.write(name=name, priority=priority, budget={"trials": 1}, device=device)
        project.create()
    project.main(capsys, "pause", "paused", "--reason", "the cluster is needed")
    hidden = project.folder / "hidden"
    (project.folder / "data").rename(hidden)
    left = project.call("worker", "--trainer", "fake_trainer:train")
    assert "study 'moved' is left to other workers: the image folder " in left
    assert "or --data of `tuner worker` and `tuner confirm`." in left
    out = project.call("worker", "--data", str(hidden), "--trainer", "fake_trainer:train")
    order = re.findall(r"study (\S+): 1 slot", out)
    assert order == ["moved", "high", "low"]
    assert "study 'gpu' is left to other workers: device 'cuda:99' was asked for" in out
    assert "study 'paused' is paused: the cluster is needed; go on: tuner resume paused" in out
    project.main(capsys, "delete", "gpu", "--yes")
    assert "No study has budget left" in project.call("worker")


def test_a_worker_goes_on_with_other_studies_when_one_is_deleted_fails_or_is_paused(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.misbehave(all={"seconds": 2.0})
    for name, priority in (("gone", 3), ("broken", 2), ("cells", 1), ("low", 0)):
        project.write(name=name, priority=priority, budget={"trials": 2})
        project.create()
    process = project.start("worker", "--trainer", "fake_trainer:train")
    until(process, r"study gone: 1 slot")
    until(process, r"epoch 1/4")
    optuna.delete_study(study_name="gone", storage=project.storage)
    project.misbehave(all={"action": "BadConfig", "epoch": 2})
    until(process, r"study broken: 1 slot")
    until(process, r"trial 1 failed")
    project.misbehave(all={"seconds": 2.0})
    until(process, r"study cells: 1 slot")
    until(process, r"epoch 1/4")
    project.main(capsys, "pause", "cells")
    until(process, r"Nothing can be begun here now, and another study has work")
    until(process, r"study low: 1 slot")
    until(process, r"epoch 1/4")
    project.main(capsys, "pause", "low")
    until(process, r"the study is paused")  # with no other that has work, it waits
    until(process, r"trial \d+ interrupted after epoch")
    project.misbehave()
    project.main(capsys, "resume", "cells")
    out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 1, out + err  # for the study that failed
    assert "study 'gone' was deleted" in err
    assert "study cells: 1 slot" in out
    assert {trial["state"] for trial in project.trials()} == {"complete"}
    assert "study 'broken' has ended: two trials failed with the same error" in out
    assert "study 'low' is paused; go on: tuner resume low" in out


def test_what_is_refused_changes_nothing_and_a_dry_run_refuses_it_too(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.create()
    project.main(capsys, "stop", "cells")
    annotations = project.folder / "data" / "annotations" / "val.json"
    before = annotations.read_text()
    moved = json.loads(before)
    moved["annotations"][0]["bbox"][0] += 1
    space = {"learning_rate": {"type": "float", "low": 1e-4, "high": 0.5, "log": True}}
    for data, changes, words in (
        (json.dumps(moved), {"budget": {"trials": 7}}, "val: as many boxes of each class, but other"),
        (before, {"budget": {"trials": 7}, "space": space}, "space.learning_rate: "),
    ):
        annotations.write_text(data)
        project.write(**changes)
        for option in ([], ["--dry-run"]):
            assert words in project.run(*option, code=1)
            kept = json.loads(project.main(capsys, "status", "cells", "--json"))
            assert (kept["budget"], kept["control"]) == (4, "stopped")


def test_what_keeps_old_trials_valid_may_change(project: Project) -> None:
    project.run("--trials", "1")
    project.write(budget={"trials": 2}, priority=3, pruner={"name": "median", "startup_trials": 1, "first_rung": 1})
    assert "budget is spent" in project.run()
    study = opened(project)
    assert (study.spec.priority, study.spec.pruner.name) == (3, "median")
    study.close()
    project.write(defaults={"epochs": 5, "image_size": 64})
    assert "defaults.epochs: 4 -> 5" in project.run(code=1)
