"""What is redrawn is redrawn on terminals that can, and told in lines everywhere else."""

import os
import pty
import subprocess
import sys
from contextlib import suppress

import pytest

CODE = """
from tuner.cli import common
from tuner.cli.fitting import screen
from tuner.cli.timing_progress import timing_progress
from tuner.workers.messages import Alive

common.LINE_SECONDS = 0.0
with timing_progress() as told:
    told(1, Alive(0, 5, "waiting"))
    told(2, Alive(3, 5, "reading"))
print("interactive:", screen().is_interactive)
"""


def on_a_terminal(**variables: str) -> str:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", CODE]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=os.environ | variables):
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # which is how the end of a terminal is told
            while read := os.read(ours, 4096):
                shown += read
    os.close(ours)
    return shown.decode().replace("\r\n", "\n")


def test_a_terminal_shows_how_far_the_timing_of_an_epoch_is() -> None:
    shown = on_a_terminal(TERM="xterm")
    assert "Timing an epoch of the default config …\n" in shown
    assert "epoch 2, reading 60%" in shown
    assert "(3 of 5)" not in shown
    assert "interactive: True" in shown


def test_a_dumb_terminal_gets_lines() -> None:
    shown = on_a_terminal(TERM="dumb")
    assert " epoch 1, waiting\n" in shown
    assert " epoch 2, reading 60% (3 of 5)\n" in shown
    assert "\x1b" not in shown
    assert "interactive: False" in shown


@pytest.mark.parametrize("variables", [{}, {"FORCE_COLOR": "1"}])  # as CI systems set it
def test_a_pipe_gets_lines(variables: dict[str, str]) -> None:
    environment = os.environ | {"TERM": "xterm", "PYTHONIOENCODING": "utf-8"} | variables
    ended = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, check=True)
    assert ended.stdout == b"interactive: False\n"
    assert " epoch 2, reading 60% (3 of 5)\n" in ended.stderr.decode()
    assert b"\x1b" not in ended.stderr
