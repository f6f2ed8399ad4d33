"""Streams that are closed, and folders whose names mean something in a URL."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.project import LIMIT
from tuner.cli.demo import demo_spec
from tuner.data.scenes import generate
from tuner.storage.urls import resolve


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_no_fault(closed: str, tmp_path: Path) -> None:
    """Some that start daemons close all three."""
    code = "from tuner.cli.main import main; import sys; sys.argv = ['tuner', 'keys', 'pruner']; main()"
    script = f'"$1" -c "$2" {closed} && "$1" -c "$3" {closed}'
    fork = "import sys; sys.argv = ['tuner', '--version']; from tuner.cli.main import main\ntry:\n main()\nfinally:\n"
    fork += " sys.stdout.flush(); sys.stderr.flush(); sys.stdin.read()"
    arguments = ["sh", "-c", script, "sh", sys.executable, code, fork]
    done = subprocess.run(arguments, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["a b", "a%20b", "a?b", "a#b"])
def test_the_demo_keeps_its_database_in_its_folder(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    storage = demo_spec(folder).storage
    assert storage is not None
    assert resolve(storage).database == str(folder / "tuner.db")


@pytest.mark.parametrize("module", ["typer", "tuner.cli.delete", "tuner.studies.reading"])
def test_ctrl_c_while_modules_are_imported_leaves_no_traceback(module: str, tmp_path: Path) -> None:
    """The last one is imported by the command itself."""
    code = f"""
import os, signal, sys
class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupting())
from tuner.cli.main import main
main()
"""
    arguments = [sys.executable, "-c", code, "status"]
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_a_full_disk_behind_the_output_is_told() -> None:
    with Path("/dev/full").open("w") as full:
        code = "from tuner.cli.main import main; main()"
        arguments = [sys.executable, "-c", code, "keys"]
        done = subprocess.run(arguments, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("error: No space left on device: where the output goes, or in ")
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_command_that_a_signal_ends_leaves_nothing_unfinished(number: signal.Signals, tmp_path: Path) -> None:
    generate(tmp_path / "data", train=4, val=2, test=1, size=(64, 48))
    code = f"""
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # a test run may have been started to ignore it
moments = [1]
def strike(event, arguments):
    if event == "open" and ".writing-" in str(arguments[0]) and str(arguments[0]).endswith("/study.yaml") and moments:
        moments.pop()
        os.kill(os.getpid(), {number})
sys.addaudithook(strike)
from tuner.cli.main import main
main()
"""
    arguments = [sys.executable, "-c", code, "init", "data", "--name", "cells"]
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT)
    assert (done.returncode, done.stdout) == (128 + number, ""), done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
