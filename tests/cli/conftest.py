"""The project that the tests of commands work on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.project import Project, kill
from tuner.data.scenes import generate


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    generate(tmp_path / "data", train=4, val=2, test=1, size=(64, 48))
    project = Project(tmp_path)
    project.write()
    yield project
    for process in project.started:
        kill(process)
