"""A folder with a study on generated scenes, and the command line to work on it, in processes of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from tuner.cli.main import main
from tuner.cli.show import trial_json
from tuner.config.load import load_study_spec
from tuner.studies.opening import create_or_open, open_study

LEASE = 6.0
"""So long that a busy machine costs no worker its trial, unless a test wants that."""
LIMIT = 500.0
"""Seconds after which a command counts as hanging: a busy machine takes long for each start."""
STATES_AT_END = {"complete", "pruned", "failed"}


@dataclass
class Project:
    """A folder with a data set and a study file, and the command to work on it."""

    folder: Path
    checks_trainer: bool = False
    """Whether the trainer is imported before a command begins, in a process of its own, as `test_own_trainer` tests."""
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def write(self, **changes: Any) -> None:
        spec: dict[str, Any] = {
            "name": "cells",
            "data": {"root": "data", "images": "images", "train": "annotations/train.json",
                     "val": "annotations/val.json"},
            "defaults": {"epochs": 4, "image_size": 64},
            "space": {"learning_rate": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True}},
            "sampler": {"name": "tpe"},
            "pruner": {"name": "none"},
            "budget": {"trials": 4},
            "device": "cpu",
            "slots": 1,
        }  # fmt: skip
        (self.folder / "study.yaml").write_text(yaml.safe_dump(spec | changes))

    def misbehave(self, **plans: dict[str, Any]) -> None:
        """What the fake trainer does, by number of the trial, with "all" for every trial."""
        plan = {"*" if name == "all" else name.removeprefix("trial"): value for name, value in plans.items()}
        (self.folder / "plan.json").write_text(json.dumps(plan))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        code = f"""
import sys
from types import SimpleNamespace
from tuner.studies.trials import leases
from tuner.workers.observer import Observer
# Pictures for the dashboard, which tests/report is about, cost as much as all else that these commands do.
sys.modules["tuner.report.dashboard"] = SimpleNamespace(DashboardObserver=lambda study: Observer())
leases.LEASE_SECONDS = {LEASE}
from tuner.workers import limits
limits.DEFAULT_TIMING = limits.Timing(heartbeat=0.5, settle=1.0)
from tuner.workers.worker import run_worker
run_worker.__kwdefaults__["timing"] = limits.DEFAULT_TIMING
from tuner.cli import common, own_trainer, supervise
if not {self.checks_trainer}:
    own_trainer.check_trainer = lambda path: None
common.LINE_SECONDS = 0.0
supervise.RESTART_DELAY = 0.5
from tuner.cli.live import LiveTable
from tuner.cli.main import main
sys.argv = ["tuner", *{list(arguments)!r}]
main()
"""
        tests = Path(__file__).parents[1]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(tests.parent), str(tests / "workers")]),
            "TUNER_STORAGE": self.storage,
            "PYTHONUNBUFFERED": "1",
            "PYTHONWARNINGS": "error",
            "COLUMNS": "200",
        }
        process = subprocess.Popen(
            [sys.executable, "-c", code], cwd=self.folder, env=environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.started.append(process)
        return process

    def call(self, *arguments: str, code: int = 0) -> str:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=LIMIT)
        assert process.returncode == code, out + err
        assert "Traceback" not in err
        return out + err

    def run(self, *arguments: str, code: int = 0) -> str:
        return self.call("run", "study.yaml", "--trainer", "fake_trainer:train", *arguments, code=code)

    def start_run(self, *arguments: str) -> subprocess.Popen[str]:
        return self.start("run", "study.yaml", "--trainer", "fake_trainer:train", *arguments)

    @property
    def storage(self) -> str:
        return f"sqlite:///{self.folder}/tuner.db"

    def trials(self) -> list[dict[str, Any]]:
        """What ``tuner show cells --json`` prints, without the start of a process."""
        study = open_study("cells", self.storage)
        try:
            found: list[dict[str, Any]] = json.loads(json.dumps([trial_json(t) for t in study.trials()], default=str))
        finally:
            study.close()
        return found

    def main(self, capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
        """Call a command that starts no process, in this one."""
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            patch.setenv("TUNER_STORAGE", self.storage)
            patch.setenv("COLUMNS", "200")
            patch.setattr(sys, "argv", ["tuner", *arguments])
            with pytest.raises(SystemExit) as ended:
                main()
        captured = capsys.readouterr()
        assert (ended.value.code or 0) == code, captured
        return captured.out + captured.err

    def create(self) -> None:
        """The study, with no trial yet."""
        create_or_open(load_study_spec(self.folder / "study.yaml", {"storage": self.storage})).close()


def kill(process: subprocess.Popen[str]) -> None:
    """The command and its worker, as a power loss does."""
    with suppress(psutil.NoSuchProcess):
        everything = [psutil.Process(process.pid), *psutil.Process(process.pid).children()]
        for each in everything:
            each.suspend()
        for each in everything:
            each.kill()
    process.communicate()


def until(process: subprocess.Popen[str], text: str) -> str:
    """Read the output up to a line with `text`."""
    assert process.stdout is not None
    read = ""
    for line in process.stdout:
        read += line
        if re.search(text, line):
            return read
    raise AssertionError(f"no {text!r} in:\n{read}\n{process.stderr.read() if process.stderr else ''}")


def check_curves(trials: list[dict[str, Any]], epochs: int = 4) -> None:
    """Every trial has one final state, and one curve without gaps or repeats."""
    assert {trial["state"] for trial in trials} <= STATES_AT_END
    for trial in trials:
        found = [epoch["epoch"] for epoch in trial["epochs"]]
        assert found == list(range(1, len(found) + 1))
        if trial["state"] == "complete":
            assert len(found) == epochs
