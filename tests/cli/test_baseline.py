"""`tuner run --baseline-repeats`, with real worker processes and a fake trainer."""

import pytest

from tests.cli.project import Project


def test_the_default_config_is_trained_with_several_seeds_first(
    project: Project,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = project.run("--baseline-repeats", "3", "--trials", "3")
    assert "3 runs of the default config spread by 0." in out
    assert "stand out" in out or "no trial is better" in out
    assert out.index("seed=2") < out.index("learning_rate=")
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
