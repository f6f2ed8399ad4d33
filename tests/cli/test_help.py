"""The command answers at once, and every command explains itself."""

import subprocess
import sys

import pytest

import tuner as tuner_package
from tuner.cli.app import app
from tuner.storage.database import connect

HEAVY = ("torch", "optuna", "sqlalchemy", "alembic", "cv2", "matplotlib", "numpy", "plotly")


def tuner(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = f"""
import sys
from tuner.cli.main import main
sys.argv = ["tuner", *{list(arguments)!r}]
try:
    main()
finally:
    print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
"""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


def commands() -> list[str]:
    return [command.name or "" for command in app.registered_commands]


def test_help_imports_nothing_heavy() -> None:
    answer = tuner("--help")
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr.strip() == "[]"
    for command in commands():
        assert command in answer.stdout


@pytest.mark.parametrize("command", commands())
def test_every_command_has_help_and_imports_nothing_heavy_for_it(command: str) -> None:
    answer = tuner(command, "--help")
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr.strip() == "[]"
    assert f"tuner {command}" in answer.stdout


def test_commands_that_read_studies_import_what_they_need_alone(sqlite_url: str) -> None:
    connect(sqlite_url).close()
    for command in ("status", "list"):
        answer = tuner(command, "--storage", sqlite_url)
        assert answer.returncode == 0, answer.stderr
        assert answer.stderr.strip() == "['sqlalchemy']"


def test_version() -> None:
    answer = tuner("--version")
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr.strip() == "[]"
    assert answer.stdout.strip() == f"tuner {tuner_package.__version__}"


def test_a_wrong_call_is_told_apart_from_a_failure() -> None:
    assert tuner("no-such-command").returncode == 2
