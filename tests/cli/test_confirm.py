"""`tuner confirm` through the command line, with real worker processes and a fake trainer."""

import json
import re
import signal

import psutil
import pytest

from tests.cli.project import LIMIT, Project, until
from tuner.studies.deleting import delete_study
from tuner.studies.opening import open_study
from tuner.studies.reading import list_studies
from tuner.studies.trust.repeats import find_repeats


def confirm(project: Project, *arguments: str, code: int = 0) -> str:
    return project.call("confirm", "cells", "--trainer", "fake_trainer:train", *arguments, code=code)


def test_the_best_configs_are_trained_again_and_the_winner_is_exported(
    project: Project,
    capsys: pytest.CaptureFixture[str],
) -> None:
    project.write(budget={"trials": 6})
    project.run()
    project.main(capsys, "export", "cells", "-o", "before.yaml")
    searched = project.trials()
    assert "unconfirmed" in (project.folder / "before.yaml").read_text()
    out = confirm(project, "--top", "2", "--seeds", "3")
    assert "95 % interval" in out
    assert re.search(r"9 complete, 0 pruned, 0 failed$", out, re.MULTILINE)
    assert "better than the default" in out
    # Runs have the names of their trials and seeds, and none of them is a best trial, or gains over another.
    assert re.search(r"trial 0, seed 1 · slot \d · default config", out)
    ended = [line for line in out.splitlines() if " complete after epoch " in line]
    assert {re.findall(r"trial \d, seed (\d) complete", line)[0] for line in ended} == {"1", "2", "3"}
    assert not [line for line in ended if "best" in line or "%" in line]
    assert "fresh seeds" in out
    # No trial of the study: neither counted nor seen.
    assert project.trials() == searched
    assert [study.name for study in list_studies(project.storage)] == ["cells"]
    starts = len(list(project.folder.rglob("starts.txt")))
    assert starts == 6 + 3 * 3
    found = json.loads(confirm(project, "--top", "2", "--seeds", "3", "--json"))
    assert (found["finished"], found["to_come"]) == (True, 0)
    assert len(list(project.folder.rglob("starts.txt"))) == starts
    assert found["seeds"] == [1, 2, 3]
    means = [one["mean"] for one in found["estimates"]]
    assert means == sorted(means, reverse=True)
    assert len(means) == 3
    project.main(capsys, "export", "cells", "-o", "after.yaml")
    text = (project.folder / "after.yaml").read_text()
    assert f"trial: {found['winner']}" in text
    assert "confirmed: true" in text
    assert found["verdict"][:30] in " ".join(text.replace("#", "").split())
    out = project.main(capsys, "best", "cells")
    assert f"confirmed  {found['verdict']}" in out
    assert f"config     of trial {found['winner']}{'' if found['winner'] else ' (default)'}, which is confirmed" in out
    best = json.loads(project.main(capsys, "best", "cells", "--json"))
    assert (best["number"], best["confirmation"]["verdict"]) == (found["winner"], found["verdict"])
    status = json.loads(project.main(capsys, "status", "cells", "--json"))
    for told in (best, status):
        assert told["confirmation"] == found
        assert len(told["noise"]["values"]) == 4
    delete_study("cells", project.storage)
    assert not list(project.folder.glob("cells*"))
    assert list_studies(project.storage) == []


def test_an_interrupted_confirmation_goes_on(project: Project) -> None:
    project.run()
    project.misbehave(all={"seconds": 0.2})
    process = project.start("confirm", "cells", "--trainer", "fake_trainer:train", "--top", "1", "--seeds", "2")
    until(process, r"epoch 1/4")
    (worker,) = psutil.Process(process.pid).children()
    worker.kill()
    until(process, r"goes on at epoch [234]")  # by a worker that took its place
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 130, out + err
    assert "The worker died by SIGKILL; it is started again in 0.5 s." in err
    saved = "running trials have saved their state.\nNot finished; the same command goes on."
    assert f"Interrupted; {saved}" in out
    project.misbehave(all={"seconds": 2.0})
    so_far = project.start("confirm", "cells", "--trainer", "fake_trainer:train", "--top", "1", "--seeds", "2",
                           "--timeout", "1s", "--json")  # fmt: skip
    told, err = so_far.communicate(timeout=LIMIT)
    assert so_far.returncode == 0, err
    assert json.loads(told) == {"finished": False, "reason": "timeout"}
    assert f"The time is up; {saved}" in err
    project.misbehave()
    out = confirm(project, "--top", "1", "--seeds", "2")
    assert re.search("goes on at epoch [234]", out)
    assert "confirmed" in out


def test_a_smaller_confirmation_does_not_take_over_an_abandoned_one(
    project: Project,
    capsys: pytest.CaptureFixture[str],
) -> None:
    project.run()
    project.misbehave(all={"seconds": 2.0})
    assert "same command goes on" in confirm(project, "--top", "3", "--seeds", "9", "--timeout", "1s")
    project.misbehave()
    out = confirm(project, "--top", "1", "--seeds", "2")
    left = 4 * 9 - 2 * 2
    assert f"{left} runs of an earlier request are left; `tuner confirm cells --top 3 --seeds 9" in out
    assert re.search(r"4 complete, 0 pruned, 0 failed$", out, re.MULTILINE)
    assert "are to come" not in out
    assert "are to come" not in project.main(capsys, "status", "cells")
    out = project.run("--baseline-repeats", "4")
    assert f"{left - 1} runs of an earlier request are left" in out
    assert "4 runs of the default config" in out
    study = open_study("cells", project.storage)
    repeats = find_repeats(study)
    assert repeats is not None
    assert len(repeats.unfinished()) == left - 1
    study.close()


def test_orders_reach_a_confirmation_and_it_leaves_a_stopped_search_alone(
    project: Project,
    capsys: pytest.CaptureFixture[str],
) -> None:
    project.run()
    project.misbehave(all={"seconds": 2.0})
    arguments = ("confirm", "cells", "--trainer", "fake_trainer:train", "--top", "1", "--seeds", "2")
    process = project.start(*arguments)
    until(process, r"epoch 1/4")
    project.main(capsys, "pause", "cells", "--reason", "the cluster is needed")
    until(process, r"the study is paused: the cluster is needed \(`tuner resume cells` goes on\)")
    assert process.poll() is None
    project.main(capsys, "resume", "cells")
    until(process, r"the study goes on")
    project.main(capsys, "stop", "cells", "--reason", "enough")
    out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, out + err
    assert "Stopped by `tuner stop`: enough" in out
    assert "the same command goes on" in out
    project.misbehave()
    out = confirm(project, *arguments[4:])
    assert "goes on at epoch" in out
    assert "confirmed" in out
    assert list_studies(project.storage)[0].control == "stopped"


def test_a_config_is_taken_out_of_a_confirmation(
    project: Project,
    capsys: pytest.CaptureFixture[str],
) -> None:
    project.run()
    # Runs are numbered in the order they were planned in: the default's two, then the best config's two.
    project.misbehave(trial2={"seconds": 60}, trial3={"seconds": 60})
    process = project.start("confirm", "cells", "--trainer", "fake_trainer:train", "--top", "2", "--seeds", "2")
    until(process, r"trial \d, seed 2 · slot \d$")
    chosen = max((trial for trial in project.trials() if not trial["is_default"]), key=lambda trial: trial["value"])
    number = str(chosen["number"])
    assert "with the next heartbeat" in project.main(capsys, "stop", "cells", number)
    out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, out + err
    assert re.search(rf"trial {number} is left out: pruned with seed \d: stopped by hand", out)
    assert "has ended already" in project.main(capsys, "stop", "cells", number, code=1)


def test_what_cannot_be_confirmed(project: Project) -> None:
    project.create()
    assert "no trial of the default config: there is nothing to compare with" in confirm(project, code=1)
    assert "tuner confirm" not in project.run("--trials", "1")
    assert "no complete trial beside the default" in confirm(project, code=1)


def test_a_default_config_that_the_time_did_not_let_finish_is_trained_for_the_confirmation(
    project: Project,
    capsys: pytest.CaptureFixture[str],
) -> None:
    project.write(budget={"trials": 2}, slots=2)
    project.misbehave(trial0={"seconds": 30})
    process = project.start_run()
    until(process, r"trial 1 complete")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 130, out + err
    assert project.trials()[0]["state"] == "interrupted"
    project.misbehave()
    out = confirm(project, "--top", "1", "--seeds", "2")
    assert re.search(r"0 \(default\)", out)
    assert "confirmed" in out
    assert "constraints" not in out
    found = json.loads(confirm(project, "--top", "1", "--seeds", "2", "--json"))
    means = {one["key"]: one["mean"] for one in found["estimates"]}
    assert set(means) == {0, 1}
    assert found["winner"] == max(means, key=lambda trial: means[trial])
    best = json.loads(project.main(capsys, "best", "cells", "--json"))
    assert (best["number"], best["state"]) == (found["winner"], "complete")
    assert best["params"].keys() == {"learning_rate"}
    out = project.main(capsys, "export", "cells", "-o", "best.yaml")
    assert f"best.yaml: trial {found['winner']}, " in out
    assert "those of fresh seed 1" in project.main(capsys, "export", "cells", "--trial", "0", "-o", "default.yaml")


def test_a_config_that_fails_with_a_fresh_seed_is_left_out(project: Project) -> None:
    project.run()
    best = sorted(project.trials(), key=lambda trial: -trial["value"])
    chosen = [trial["number"] for trial in best if not trial["is_default"]][:2]
    # Runs are numbered in the order they were planned in: the default's two, then the best config's two.
    project.misbehave(trial2={"action": "Diverged"})
    (project.folder / "data").rename(project.folder / "moved")  # as on another machine
    out = confirm(project, "--top", "2", "--seeds", "2", "--data", "moved")
    assert f"trial {chosen[0]} is left out: pruned with seed 1" in out
    assert f" {chosen[1]} " in out
    study = open_study("cells", project.storage)
    study.close()
