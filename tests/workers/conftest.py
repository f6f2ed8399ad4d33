"""Fixtures of the tests with workers."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.register_assert_rewrite("hosts")  # so that a failure there shows what was found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with the trainers beside this file for trial processes to import."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.chdir(tmp_path)  # where studies on a server keep their files
    return tmp_path
