"""The project that the tests of commands work on."""

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.project import Project, kill
from tuner.cli.main import main
from tuner.data.scenes import generate


@pytest.fixture
def project(tmp_path: Path, empty_database: Path) -> Iterator[Project]:
    shutil.copyfile(empty_database, tmp_path / "tuner.db")
    generate(tmp_path / "data", train=4, val=2, test=1, size=(64, 48))
    project = Project(tmp_path)
    project.write()
    yield project
    for process in project.started:
        kill(process)


@pytest.fixture
def no_database(project: Project) -> None:
    """Let the project's database be one that nobody has made yet."""
    (project.folder / "tuner.db").unlink()


@pytest.fixture
def tuner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Calls `tuner calibrate` in an empty folder; exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tuner", "calibrate", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run
