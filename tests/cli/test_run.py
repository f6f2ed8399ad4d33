"""Whole studies through the command line, in processes of their own, on generated scenes, with a fake trainer."""

import io
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from tests.cli.project import LIMIT, Project, check_curves, until
from tuner.cli.live import LiveTable
from tuner.cli.show import trial_json
from tuner.config.load import load_study_spec
from tuner.studies.opening import create_or_open, open_study
from tuner.workers.devices import plan_slots
from tuner.workers.worker import run_worker


@pytest.mark.parametrize(
    ("objectives", "search"), [([], "auto (gp, later tpe)"), (["map", "latency_ms"], "auto (tpe)")]
)
def test_a_dry_run_says_what_the_sampler_stands_for(
    project: Project, capsys: pytest.CaptureFixture[str], objectives: list[str], search: str
) -> None:
    file = project.folder / "study.yaml"
    spec = yaml.safe_load(file.read_text()) | {"sampler": {"name": "auto"}, "objectives": objectives}
    file.write_text(yaml.safe_dump(spec))
    assert f"search     {search}, pruner " in project.main(capsys, "run", "study.yaml", "--dry-run")


def test_a_dry_run_shows_all_limits_and_goals(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    plain = project.main(capsys, "run", "study.yaml", "--dry-run")
    assert "budget     4 trials, 4 epochs at most for each\nslot" in plain
    assert "objectives" not in plain
    budget = {"trials": 7, "wall_time": "2h", "gpu_hours": 3.5, "cpu_hours": 11, "epochs": 99, "no_gain": 5}
    limits = "99 epochs of all trials, 2 h 00 min of wall time, 3.5 GPU-hours, 11 hours of CPU time"
    project.write(budget=budget, objectives=["map", "latency_ms"], constraints=["latency_ms <= 20", "f1 >= 0.2"])
    told = project.main(capsys, "run", "study.yaml", "--dry-run", "--timeout", "90m")
    assert "budget     7 trials, 4 epochs at most for each" in told
    assert f"at most {limits}, 5 trials in a row without a gain, 1 h 30 min for this run\n" in told
    assert "objectives map, latency_ms: a Pareto front" in told
    assert "constraint latency_ms <= 20, f1 >= 0.2\n" in told


def test_a_dry_run_says_that_voting_is_tried(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    line = "nms: one of 'greedy', 'greedy-voting' (found by a sweep, costs no training)"
    assert line in project.main(capsys, "run", "study.yaml", "--dry-run")
    file = project.folder / "study.yaml"
    spec = yaml.safe_load(file.read_text())
    spec["space"] = {"learning_rate": {"type": "float", "low": 1e-3, "high": 1e-1}, "nms": "greedy"}
    file.write_text(yaml.safe_dump(spec))
    assert "greedy-voting" not in project.main(capsys, "run", "study.yaml", "--dry-run")


def test_a_dry_run_shows_the_default_config_with_what_the_space_fixes(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    rate = {"type": "float", "low": 1e-5, "high": 1e-3, "log": True}
    project.write(space={"model": "fasterrcnn-resnet50", "batch_size": 2, "learning_rate": rate})
    line = "default    fasterrcnn-resnet50, image size 64, 4 epochs, batch 2, learning rate 0.0002"
    assert line in project.main(capsys, "run", "study.yaml", "--dry-run")


def test_the_readme_s_study_file_and_space_are_accepted(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    study, *parts = re.findall(r"^```yaml\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)
    space, own = (
        part + re.sub(rf"^(?:{'|'.join(yaml.safe_load(part))}):.*\n(?: .*\n)*", "", study, flags=re.MULTILINE)
        for part in parts
    )
    (project.folder / "own.py").write_text("def train(task, stop_requested):\n    yield\n")
    for text, options, dimension in (
        (study, [], "learning_rate"),
        (space, [], "momentum"),
        (own, ["--trainer", "own:train"], "own.box"),
    ):
        (project.folder / "readme.yaml").write_text(text)
        told = project.main(capsys, "run", "readme.yaml", "--dry-run", "--storage", project.storage, *options)
        assert "study      cells" in told
        assert f"{dimension}: " in told


def test_what_is_doubtful_about_the_data_is_said_before_and_at_the_start(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    file = project.folder / "study.yaml"
    spec = yaml.safe_load(file.read_text())
    annotations = project.folder / "data" / spec["data"]["train"]
    spec["data"]["val"] = spec["data"]["train"]
    file.write_text(yaml.safe_dump(spec))
    assert "note: 4 images are in train and in val" in project.main(capsys, "run", "study.yaml", "--dry-run")
    process = project.start_run("--trials", "1")
    out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, out + err
    assert err.count("note: 4 images are in train and in val") == 1

    content = json.loads(annotations.read_text())
    for annotation in content["annotations"]:
        annotation |= {"bbox": [1, 1, 9, 0.5], "area": 4.5}
    annotations.write_text(json.dumps(content))
    for option in ([], ["--dry-run"]):
        said = project.run(*option, code=1)
        assert "boxes of train are below 1 px in width or height at image size 64" in said


def test_what_is_doubtful_is_judged_at_the_image_size_that_the_space_fixes(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    annotations = project.folder / "data" / "annotations" / "train.json"
    content = json.loads(annotations.read_text())
    side = max(image["width"] for image in content["images"]) / 64  # a pixel at image size 64
    for annotation in content["annotations"]:
        annotation |= {"bbox": [20, 20, 0.9 * side, 0.9 * side], "area": 0.8 * side**2}
    annotations.write_text(json.dumps(content))
    project.write(space={"image_size": 128, "learning_rate": {"type": "float", "low": 1e-3, "high": 1e-1}})
    assert "below 1 px" not in project.main(capsys, "run", "study.yaml", "--dry-run")
    assert "canvas of 128 x" in project.main(capsys, "anchors", "study.yaml", "--recipe", "kmeans-iou")


@pytest.mark.usefixtures("no_database")
def test_a_study_from_start_to_end(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.write(slots=2)
    assert "learning_rate" in project.main(capsys, "run", "study.yaml", "--dry-run")
    assert not (project.folder / "tuner.db").exists()
    assert json.loads(project.main(capsys, "list", "--json")) == []
    out = project.run()
    assert "trial 0" in out
    assert "epoch 4/4" in out
    assert "budget is spent" in out
    assert "one run each: the best of several" in out or "no trial was better" in out
    assert "tuner export cells" in out
    trials = project.trials()
    assert [trial["number"] for trial in trials] == [0, 1, 2, 3]
    assert trials[0]["is_default"]
    check_curves(trials)
    assert json.loads(project.main(capsys, "show", "cells", "--json")) == trials
    assert "wrote curves.svg\n" in project.main(capsys, "show", "cells", "--curves", "curves.svg")
    assert json.loads(project.main(capsys, "show", "cells", "2", "--json")) == trials[2]
    assert [study["name"] for study in json.loads(project.main(capsys, "list", "--json"))] == ["cells"]
    status = json.loads(project.main(capsys, "status", "cells", "--json"))
    assert status["counts"]["complete"] == 4
    best = json.loads(project.main(capsys, "best", "cells", "--json"))
    assert best["value"] == max(trial["value"] for trial in trials)
    assert best["operating_point"]["confidence"] == 0.3
    for command in (["status"], ["list"], ["show", "cells"], ["show", "cells", "1"], ["best", "cells"]):
        assert "0." in project.main(capsys, *command)
    # Warm processes: two slots trained all trials.
    pids = {line.split()[0] for file in project.folder.rglob("starts.txt") for line in file.read_text().splitlines()}
    assert len(pids) == 2


def test_a_finished_study_starts_no_process_and_goes_on_with_a_larger_budget(project: Project) -> None:
    project.run("--trials", "2")
    starts = sorted(project.folder.rglob("starts.txt"))
    assert "budget is spent" in project.run("--trials", "2")
    assert sorted(project.folder.rglob("starts.txt")) == starts
    project.run("--trials", "3")
    assert len(project.trials()) == 3


def test_weak_trials_are_pruned(project: Project) -> None:
    project.write(pruner={"name": "median", "startup_trials": 1, "first_rung": 1}, budget={"trials": 8})
    out = project.run()
    assert "pruning    saved" in out
    trials = project.trials()
    check_curves(trials)
    pruned = [trial for trial in trials if trial["state"] == "pruned"]
    assert pruned
    assert all(0 < len(trial["epochs"]) < 4 for trial in pruned)


def test_bugs_in_a_row_end_the_study_and_leave_their_traceback(project: Project) -> None:
    project.misbehave(all={"action": "bug"})
    out = project.run(code=1)
    assert "3 trials failed one after the other" in out
    assert "nobody foresaw this" in out
    logs = list(project.folder.rglob("error.log"))
    assert len(logs) == 3
    assert "ZeroDivisionError" in logs[0].read_text()


def test_a_run_of_failures_alone_is_no_success(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.misbehave(all={"action": "bug"})
    project.write(budget={"trials": 1})
    out = project.run(code=1)
    assert re.search("error: no trial has a result; trial 0 failed: .*nobody foresaw this", out)
    assert "tuner delete cells" in out
    assert "nobody foresaw this" in project.main(capsys, "status", "cells")
    assert "│ finished │" in project.main(capsys, "list")
    shown = project.main(capsys, "show", "cells", "0")
    assert "  augment.mosaic: 0." in shown  # as it is written in a study file
    assert "learning rate" not in shown  # of no epoch
    assert "pruning" not in out  # a failed trial saved no epochs
    project.misbehave()
    project.run("--trials", "2")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "missing.yaml"], "missing.yaml: no such file\nWrite a study file with `tuner init DIR`"),
        (["run", "data"], "data: cannot be read: Is a directory\nWrite a study file with `tuner init DIR`"),
        (["run", "study.yaml", "--device", "gpu"], "expected auto, cpu, cuda or cuda:N"),
        (["run", "study.yaml", "--timeout", "soon"], "--timeout: 'soon' is not a duration"),
        (["status", "cels"], "Did you mean 'cells'?"),
        (["status", "cells@repeats"], "holds the repeats of study 'cells' .*\nName the study: `tuner confirm cells`"),
        (["export", "cells@repeats", "-o", "best.yaml"], "holds the repeats of study 'cells'"),
        (["delete", "cells@repeats", "--yes"], "`tuner delete cells` deletes them with it"),
        (["show", "cells", "99"], "no trial 99"),
        (["best", "cells"], "no complete trial yet"),
        (["list", "--storage", "postgresql://me:secret@127.0.0.1:1/none"], r"me:\*\*\*@127.0.0.1"),
    ],
)
def test_a_users_mistake_gets_a_message(
    project: Project, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    project.create()
    out = project.main(capsys, *arguments, code=1)
    assert re.search(expected, out), out
    assert "secret" not in out
    assert "Traceback" not in out


def test_two_commands_begin_a_study_in_a_new_database_at_once(project: Project, database_url: str) -> None:
    arguments = ("--storage", database_url)
    assert "No studies" in project.call("list", "--storage", database_url)
    for process in [project.start_run(*arguments), project.start_run(*arguments)]:
        out, err = process.communicate(timeout=LIMIT)
        assert process.returncode == 0, out + err
    study = open_study("cells", database_url)
    trials = [trial_json(trial) for trial in study.trials()]
    study.close()
    check_curves(json.loads(json.dumps(trials, default=str)))
    assert [(trial["number"], len(trial["attempts"])) for trial in trials] == [(number, 1) for number in range(4)]


def test_debug_does_not_repeat_a_users_mistake(project: Project) -> None:
    process = project.start_run("--debug", "--storage", "postgresql://me:secret@127.0.0.1:1/none")
    _, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 1
    assert err.count("StorageAway: the database postgresql+psycopg://me:***@127.0.0.1:1/none") == 1
    assert "secret" not in err


def test_debug_shows_the_traceback(project: Project) -> None:
    process = project.start("run", "missing.yaml", "--debug")
    _, err = process.communicate(timeout=LIMIT)
    assert "Traceback" in err


def test_the_variable_counts_where_nothing_else_names_the_database(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    own, other = (f"sqlite:///{project.folder}/{name}.db" for name in ("own", "other"))
    project.write(storage=own)
    assert f"storage    {own}\n" in project.main(capsys, "run", "study.yaml", "--dry-run")
    assert f"storage    {other}\n" in project.main(capsys, "run", "study.yaml", "--dry-run", "--storage", other)
    project.write()
    assert f"storage    {project.storage}\n" in project.main(capsys, "run", "study.yaml", "--dry-run")


def test_curves_of_one_trial_are_refused(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.create()
    said = project.main(capsys, "show", "cells", "1", "--curves", "curves.png", code=1)
    assert "error: --curves draws all trials of a study" in said


def test_delete_asks_first(
    project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    project.create()
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    project.main(capsys, "delete", "cells", code=1)
    assert project.trials() == []
    project.main(capsys, "delete", "cells", "--yes")
    assert not json.loads(project.main(capsys, "list", "--json"))


def test_delete_asks_beside_its_json(project: Project) -> None:
    project.create()
    code = "from tuner.cli.main import main; main()"
    command = [sys.executable, "-c", code, "delete", "cells", "--json", "--storage", project.storage]
    done = subprocess.run(command, input="y\n", capture_output=True, text=True, timeout=LIMIT)
    assert done.stdout.startswith("{")
    assert json.loads(done.stdout) == {"deleted": "cells", "trials": 0}
    assert "Delete study 'cells'" in done.stderr


def test_another_worker_joins(project: Project) -> None:
    project.misbehave(all={"seconds": 3.0})  # so that trials are left however late the second begins
    first = project.start_run()
    until(first, r"epoch 1/4")
    second = project.start("worker", "--study", "cells", "--trainer", "fake_trainer:train")
    until(second, r"epoch 1/4")
    project.misbehave()
    for process in (first, second):
        out, err = process.communicate(timeout=LIMIT)
        assert process.returncode == 0, out + err
    trials = project.trials()
    check_curves(trials)
    assert len({attempt["pid"] for trial in trials for attempt in trial["attempts"]}) == 2
    assert [len(trial["attempts"]) for trial in trials] == [1, 1, 1, 1]


def test_the_demo_goes_on_when_called_again(project: Project) -> None:
    arguments = ("demo", "--folder", "try", "--trainer", "fake_trainer:train")
    process = project.start(*arguments)
    until(process, "trial 0 complete")
    process.send_signal(signal.SIGINT)
    assert process.wait(LIMIT) == 130
    file = project.folder / "try" / "study.yaml"
    file.write_text(re.sub(r"trials: \d+", "trials: 4", file.read_text()))
    out = project.call(*arguments)
    assert "Going on with the demo" in out
    assert "trial 0 complete" not in out
    assert "budget is spent" in out
    assert "tuner export demo -o best.yaml --storage sqlite:///" in out
    assert "holds no demo" in project.call("demo", "--folder", "data", code=1)


def test_the_live_table_shows_trials_and_the_best(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "workers")
    spec = load_study_spec(project.folder / "study.yaml", {"storage": project.storage})
    study = create_or_open(spec)
    project.misbehave(trial0={"action": "work", "long": 0.01, "counts": [3, 5]})
    screen = io.StringIO()
    table = LiveTable(study, Console(file=screen, force_terminal=True, width=120, color_system=None))
    run_worker(study, slots=plan_slots("cpu", 1), trainer="fake_trainer:train", observers=[table])
    study.close()
    shown = screen.getvalue()
    assert "study cells" in shown
    assert re.search(r"0 │ cpu · slot 0 │ +0/4 │ training 60%", shown)
    assert re.search(r"0 │ cpu · slot 0 │ +2/4 │ +│", shown)
    assert "3 of 4 trials: 3 complete · 0 pruned · 0 failed · study ends in" in shown
    assert re.search(r"best mAP: 0\.\d{4} of trial 0", shown)


def test_a_log_says_how_far_an_epoch_is(project: Project) -> None:
    project.write(budget={"trials": 1})
    project.misbehave(trial0={"action": "work", "epoch": 2, "long": 0.01, "counts": [3, 5]})
    line = r"\n.* trial 0 · 1/4 epochs done · training 60% \(3 of 5\)\n"
    assert re.search(f"epoch 1/4 .*{line}.* epoch 2/4", project.run())


def test_a_run_whose_output_nobody_reads_any_more_is_finished(project: Project) -> None:
    process = project.start_run()
    until(process, r"epoch 1/4")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait(LIMIT) == 128 + signal.SIGPIPE
    assert "Traceback" not in errors
    trials = project.trials()
    check_curves(trials)
    assert len(trials) == 4
