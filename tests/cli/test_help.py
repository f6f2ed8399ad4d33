"""The command answers at once, and every command explains itself."""

import re
import subprocess
import sys

import pytest

import tuner as tuner_package
from tuner.cli.app import app
from tuner.cli.main import main
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


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["tuner", "conf"], ["confirm"]),
        (["tuner", "run", "study.yaml", "--ti"], ["--timeout"]),
        (["tuner", "run", "study.yaml", "--keep", ""], ["best", "all", "none"]),
    ],
)
def test_a_shell_completes_commands_options_and_choices(
    words: list[str], found: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_TUNER_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", " ".join(words))
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    assert said(monkeypatch, capsys).split() == found


def test_help_fills_its_paragraphs_and_shows_defaults_alike(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    for command in commands():
        shown = said(monkeypatch, capsys, command, "-h")
        assert "; default:" not in shown  # but [default: …], as typer shows the others
        usage = next(line for line in shown.splitlines() if "Usage:" in line)
        assert not re.search(r"[\[{][a-z]", usage.replace("[OPTIONS]", "")), usage  # of a file or name: in capitals
    assert "it goes on; runs that are finished" in said(monkeypatch, capsys, "confirm", "--help")


def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command prints, called in this process."""
    monkeypatch.setattr(sys, "argv", ["tuner", *arguments])
    monkeypatch.setattr(sys.modules["__main__"], "__package__", "")  # as for a script, by `python -m pytest`, too
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    return capsys.readouterr().out


def test_a_wrong_call_is_told_apart_from_a_failure() -> None:
    assert tuner("no-such-command").returncode == 2
