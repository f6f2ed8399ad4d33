"""A worker that dies, or whose command does, through the command line."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from subprocess import Popen

import optuna
import psutil
import pytest

from tests.cli.project import LIMIT, Project, check_curves, until
from tuner.storage.urls import resolve
from tuner.studies.opening import open_study

Process = Popen[str]


def worker_of(process: Process) -> psutil.Process:
    """The worker of a command that has begun one."""
    while not (children := psutil.Process(process.pid).children()):
        time.sleep(0.05)
    return children[0]


@pytest.mark.parametrize("command", ["run", "worker"])
def test_a_worker_that_dies_is_started_again_by_its_command(project: Project, command: str) -> None:
    project.misbehave(all={"seconds": 0.2})
    if command == "run":
        process = project.start_run()
    else:
        project.create()
        process = project.start("worker", "--trainer", "fake_trainer:train")
    until(process, r"epoch 2/4")
    (worker,) = psutil.Process(process.pid).children()
    worker.kill()
    project.misbehave()
    out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, out + err
    assert "The worker died by SIGKILL; it is started again in 0.5 s." in err
    trials = project.trials()
    check_curves(trials)
    attempts = [attempt for trial in trials for attempt in trial["attempts"]]
    assert sorted(attempt["outcome"] for attempt in attempts) == ["complete"] * 4 + ["lost"]
    assert len({attempt["pid"] for attempt in attempts}) == 2


def is_worker(process: psutil.Process) -> bool:
    """Whether it lives, and is not the one that looks at the trainer before there is a worker."""
    try:
        return "load_trainer" not in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


def test_a_worker_whose_starts_fail_is_given_up(project: Project) -> None:
    project.misbehave(all={"seconds": 30})
    process = project.start_run()
    until(process, r"study cells:")  # before, a child may be the one that looks at the trainer
    killed: set[int] = set()
    while process.poll() is None:
        for child in filter(is_worker, psutil.Process(process.pid).children()):
            killed.add(child.pid)
            child.kill()
        time.sleep(0.05)
    _, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 1
    assert len(killed) == 3, err
    assert "The worker died by SIGKILL; it is started again in 1 s." in err
    assert "the worker died 3 times soon after its start, the last time by SIGKILL, and is given up" in err


def test_a_worker_whose_command_is_killed_saves_and_ends(project: Project) -> None:
    project.misbehave(all={"seconds": 0.5})
    process = project.start_run()
    until(process, r"epoch 1/4")
    (worker,) = psutil.Process(process.pid).children()
    process.kill()
    worker.wait(60)
    assert [trial["state"] for trial in project.trials()] == ["interrupted"]


def test_a_study_that_was_deleted_is_not_begun_anew_by_a_worker_that_starts_again(project: Project) -> None:
    project.misbehave(all={"seconds": 30})
    process = project.start_run()
    until(process, r"trial 0 · slot 0")
    worker = worker_of(process)
    worker.suspend()
    optuna.delete_study(study_name="cells", storage=project.storage)
    worker.kill()
    out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 1, out + err
    assert "error: there is no study 'cells'" in err


def test_ctrl_c_before_the_worker_listens_ends_it(project: Project) -> None:
    process = project.start_run()
    worker_of(process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 130, out + err
    assert "KeyboardInterrupt" not in err  # Python may warn of a file left open where an import was cut off
    assert "started again" not in err


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_a_worker_that_dies_while_the_database_is_away_waits_for_it(
    project: Project, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "workers")
    from tcp_proxy import Proxy

    url = resolve(database_url)
    project.write(slots=2)
    project.misbehave(all={"seconds": 0.8})
    (project.folder / "tuner-studies").mkdir()
    (project.folder / "plan.json").rename(project.folder / "tuner-studies" / "plan.json")
    with Proxy(url.host or "127.0.0.1", url.port or 5432) as proxy:
        behind = url.set(drivername="postgresql", host="127.0.0.1", port=proxy.port)
        storage = ("--storage", behind.render_as_string(hide_password=False))
        process = project.start_run(*storage)
        until(process, r"epoch 2/4")
        proxy.stop()
        worker_of(process).kill()
        assert process.stderr is not None
        said = ""
        while "the worker waits for it" not in said:
            said += (line := process.stderr.readline())
            assert line, said
        proxy.start()
        out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, out + said + err
    assert "The database answers again." in err
    study = open_study("cells", database_url)
    trials = study.trials()
    study.close()
    assert [trial.state for trial in trials] == ["complete"] * 4
    assert [[epoch.epoch for epoch in trial.epochs] for trial in trials] == [[1, 2, 3, 4]] * 4
    assert sorted(a.outcome or "" for trial in trials for a in trial.attempts) == ["complete"] * 4 + ["lost"] * 2
