"""`tuner run --baseline-repeats`, with real worker processes and a fake trainer."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from tests.cli.project import Project
from tuner.cli.live import LiveTable
from tuner.config.load import load_study_spec
from tuner.studies.opening import create_or_open
from tuner.studies.trust.noise import plan_baseline
from tuner.workers.devices import plan_slots
from tuner.workers.worker import run_worker


def test_the_default_config_is_trained_with_several_seeds_first(
    project: Project,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = project.run("--baseline-repeats", "3", "--trials", "3")
    assert "3 runs of the default config spread by 0." in out
    assert "stand out" in out or "no trial is better" in out
    assert out.index("trial 0, seed 2 · slot") < out.index("learning_rate=")
    assert len(project.trials()) == 3
    assert len(list(project.folder.rglob("starts.txt"))) == 3 + 2
    assert "3 runs of the default config" in project.main(capsys, "status", "cells")
    # What is measured is not measured again, and confirming uses it.
    project.run("--baseline-repeats", "3", "--trials", "3")
    assert len(list(project.folder.rglob("starts.txt"))) == 3 + 2
    out = project.call("confirm", "cells", "--top", "1", "--seeds", "2", "--trainer", "fake_trainer:train")
    assert len(list(project.folder.rglob("starts.txt"))) == 3 + 2 + 2
    assert "confirmed" in out


def test_repeats_that_are_cut_short_go_on(project: Project) -> None:
    project.misbehave(all={"seconds": 2.0})
    out = project.run("--baseline-repeats", "2", "--timeout", "3s")
    assert "same command goes on with them" in out
    assert project.trials() == []
    project.misbehave()
    out = project.run("--baseline-repeats", "2", "--trials", "2")
    assert "2 runs of the default config" in out


def test_the_live_table_of_repeats_names_trials_and_seeds_and_no_best(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "workers")
    study = create_or_open(load_study_spec(project.folder / "study.yaml", {"storage": project.storage}))
    run_worker(study, slots=plan_slots("cpu", 2), trainer="fake_trainer:train")
    repeats, screen = plan_baseline(study, 3), io.StringIO()
    table = LiveTable(repeats, Console(file=screen, force_terminal=True, width=120, color_system=None))
    run_worker(repeats, slots=plan_slots("cpu", 1), trainer="fake_trainer:train", observers=[table])
    study.close()
    shown = screen.getvalue()
    assert "study cells, runs with other seeds" in shown
    assert re.search(r"0, seed 2 │ cpu · slot 0 │ +2/4", shown)
    assert "2 of 2 runs: 2 complete" in shown
    assert "best" not in shown
