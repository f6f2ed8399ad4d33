"""Whoever waits for a model's images sees how far it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.export.command import run
from tuner.cli import image_progress
from tuner.config.study import DataSpec
from tuner.export import predicting


@pytest.mark.parametrize("command", ["predict", "evaluate", "calibrate"])
def test_images_are_counted_on_stderr(
    command: str,
    model: Path,
    data: DataSpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(image_progress, "LINE_SECONDS", 0.0)
    monkeypatch.setattr(predicting, "CHUNK", 1)
    truth = data.path(data.val)
    images = data.path(data.images)
    of = [images] if command == "predict" else ["--data", truth, "--images", images]
    assert run(command, model, *of) == 0
    said = capsys.readouterr()
    assert " 0 of " in said.err
    assert " 1 of " in said.err
    assert " of " not in said.out.splitlines()[0]
    monkeypatch.setattr(image_progress, "LINE_SECONDS", 60.0)
    assert run(command, model, *of, "--force" if command != "evaluate" else "--json") == 0
    assert " 1 of " not in capsys.readouterr().err
