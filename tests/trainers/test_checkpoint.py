"""Checkpoints are whole or absent, and never run code."""

from __future__ import annotations

import os
import pickle
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tuner.config.errors import WeightsError
from tuner.trainers.contract import DiskFull
from tuner.trainers.detection import checkpoint


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "new" / "last.pt"
    assert checkpoint.load(path) is None
    checkpoint.save(path, {"epoch": 3, "model": {"w": torch.ones(2)}})
    state = checkpoint.load(path)
    assert state is not None
    assert state["epoch"] == 3
    assert [p.name for p in path.parent.iterdir()] == ["last.pt"]


def test_processes_with_the_same_id_do_not_write_into_each_others_files(tmp_path: Path) -> None:
    """In containers all processes have the same few ids."""
    theirs = tmp_path / f"last.{os.getpid()}.partial"
    theirs.write_bytes(b"half of a")
    checkpoint.save(tmp_path / "last.pt", {"epoch": 3})
    assert theirs.read_bytes() == b"half of a"


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
def test_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "last.pt"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"last\.pt cannot be read"):
        checkpoint.load(path)


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch hacked",)


def test_pickled_code_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "last.pt"
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(WeightsError):
        checkpoint.load(path)
    torch.save(Evil(), path)
    with pytest.raises(WeightsError):
        checkpoint.load(path)
    assert not (tmp_path / "hacked").exists()


def test_full_disk_is_said_and_keeps_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    checkpoint.save(path, {"round": 1})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))  # a write beyond fails as on a full disk
    try:
        with pytest.raises(DiskFull, match="cannot be written"):
            checkpoint.save(path, {"round": 2, "model": torch.ones(10**6)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert checkpoint.load(path) == {"round": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_a_folder_that_has_become_a_file(tmp_path: Path) -> None:
    (tmp_path / "trial").touch()
    with pytest.raises(DiskFull, match="cannot be written"):
        checkpoint.save(tmp_path / "trial" / "last.pt", {"round": 1})


def test_killed_while_writing_leaves_a_whole_one(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    checkpoint.save(path, {"round": -1})
    code = (
        "import sys, torch; from pathlib import Path; from tuner.trainers.detection import checkpoint\n"
        "for i in range(10**6): checkpoint.save(Path(sys.argv[1]), {'round': i, 'model': torch.ones(10**6)})"
    )
    for pause in (0.0, 0.013, 0.031):
        process = subprocess.Popen([sys.executable, "-c", code, str(path)])
        while (state := checkpoint.load(path)) is None or state["round"] < 0:
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(pause)
        process.send_signal(signal.SIGKILL)
        process.wait()
        state = checkpoint.load(path)
        assert state is not None
        assert state["round"] >= 0
        checkpoint.save(path, {"round": -1})
        checkpoint.remove_unfinished(path)
        assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]
