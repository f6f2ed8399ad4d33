"""A trainer that cannot be used is refused before anything is begun with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.project import Project

FORM = "is not of the form package.module:callable"


@pytest.mark.parametrize(
    ("trainer", "why"),
    [
        ("", f"trainer '' {FORM}"),
        ("json", f"trainer 'json' {FORM}"),
        ("nonesuch:train", "trainer 'nonesuch:train' cannot be imported: ModuleNotFoundError: No module named"),
        ("odd_trainers:MESSAGES", "module 'odd_trainers' has no callable 'MESSAGES' to train with"),
    ],
)
def test_it_is_refused_with_the_reason_alone(project: Project, trainer: str, why: str) -> None:
    said = project.call("run", "study.yaml", "--trainer", trainer, code=1)
    assert said.startswith(f"error: --trainer: {why}")
    assert "in the current folder or in one of PYTHONPATH" in said
    assert not Path(project.folder, "tuner.db").exists()


def test_one_of_the_current_folder_is_taken(project: Project) -> None:
    Path(project.folder, "own.py").write_text("def train(task, stop_requested):\n    yield\n", encoding="utf-8")
    project.call("run", "study.yaml", "--dry-run", "--trainer", "own:train")


def test_the_readmes_example_runs_and_what_it_leaves_out_is_named(project: Project) -> None:
    readme = Path(__file__).parents[2] / "README.md"
    example = next(block for block in readme.read_text("utf-8").split("```") if "stop_requested" in block)
    Path(project.folder, "my_trainer.py").write_text(example.removeprefix("python"), encoding="utf-8")
    project.write(budget={"trials": 2})
    out = project.call("run", "study.yaml", "--trainer", "my_trainer:train")
    assert "2 complete" in out
    out = project.call("export", "cells", "-o", "best.yaml", code=1)
    assert "has no operating point: its trainer reported none" in out


@pytest.mark.parametrize(
    "command", [["run", "study.yaml", "--dry-run"], ["confirm", "cells"], ["worker"], ["demo", "--folder", "demo"]]
)
def test_every_command_that_trains_refuses_it_first(project: Project, command: list[str]) -> None:
    project.create()
    said = project.call(*command, "--trainer", "json", code=1)
    assert said.startswith(f"error: --trainer: trainer 'json' {FORM}")
    assert not Path(project.folder, "demo").exists()


def test_a_confirmation_is_not_begun_with_it(project: Project) -> None:
    project.run()
    before = project.call("status", "cells", "--json")
    project.call("confirm", "cells", "--trainer", "json", code=1)
    assert project.call("status", "cells", "--json") == before
