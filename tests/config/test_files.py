"""Files that are whole or not there, when the process that writes them is killed or the disk is full."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tuner.config.errors import ConfigError
from tuner.config.files import write_text, writing_folder, written_whole

WRITES_HALF = """
import sys, time
from pathlib import Path
from tuner.config.files import written_whole
with written_whole(Path(sys.argv[1])) as whole:
    whole.write_text("half of")
    print("half", flush=True)
    time.sleep(600)
"""
TOO_LARGE = """
import resource, sys
from pathlib import Path
from tuner.config.errors import ConfigError
from tuner.config.files import write_text
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    write_text(Path(sys.argv[1]), 1000 * "x")
except ConfigError as error:
    print(error)
"""


def hidden(folder: Path) -> list[Path]:
    return list(folder.glob(".*"))


def test_a_killed_process_leaves_the_old_file_and_nothing_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "best [1].yaml"  # what is a pattern elsewhere is a name
    write_text(path, "old")
    code = [sys.executable, "-c", WRITES_HALF, str(path)]
    with subprocess.Popen(code, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half\n"
        assert path.read_text() == "old"
        write_text(path, "newer")  # what is in use stays
        assert len(hidden(tmp_path)) == 1
        process.send_signal(signal.SIGKILL)
    assert path.read_text() == "newer"
    assert len(hidden(tmp_path)) == 1
    write_text(tmp_path / "another.yaml", "")
    assert len(hidden(tmp_path)) == 1
    write_text(path, "newest")
    assert path.read_text() == "newest"
    assert not hidden(tmp_path)


def test_what_cannot_be_written_whole_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "best.yaml"
    write_text(path, "old")
    done = subprocess.run([sys.executable, "-c", TOO_LARGE, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"cannot write {path}: File too large\n")
    assert path.read_text() == "old"
    assert not hidden(tmp_path)


def test_an_error_in_between_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / ("ü" * 120)  # a name of 240 bytes
    write_text(path, "old")
    with pytest.raises(ValueError, match="mine"), written_whole(path):
        raise ValueError("mine")
    assert path.read_text() == "old"
    assert not hidden(tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    path = tmp_path / "no" / "best.yaml"
    with pytest.raises(ConfigError, match=f"cannot write {path}: No such file"), writing_folder(path):
        pass


def test_permissions_are_those_that_the_user_has_chosen(tmp_path: Path) -> None:
    code = "import os, sys, pathlib; os.umask(0o077); from tuner.config.files import write_text\n"
    code += "write_text(pathlib.Path(sys.argv[1]), 'private')"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "best.yaml")], check=True)
    assert (tmp_path / "best.yaml").stat().st_mode & 0o777 == 0o600
