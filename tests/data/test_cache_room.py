"""Image caches on a disk that is too small for all of them."""

from __future__ import annotations

import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from tuner.config.errors import DiskError
from tuner.config.study import DataSpec
from tuner.data import cache_room, scenes
from tuner.data.cache import CachedImages, open_cache
from tuner.data.coco import load_split
from tuner.data.letterbox import Canvas
from tuner.data.split import Split
from tuner.trainers.detection.prepared_data import prepared_data

Usage = namedtuple("Usage", "total used free")
Disk = Callable[[float], None]
SIDE = 64
SIZE = 12 * SIDE * SIDE * 3 + 4096
"""Bytes on the disk of a cache of the training split."""


@pytest.fixture
def spec(tmp_path: Path) -> DataSpec:
    return scenes.generate(tmp_path / "scenes", train=12, val=12, test=1, size=(64, 48))


@pytest.fixture
def split(spec: DataSpec) -> Split:
    return load_split(spec, "train")[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


@pytest.fixture
def disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Sets how many caches the disk of the folder holds."""
    monkeypatch.setattr(cache_room, "_LEAST", 0)
    monkeypatch.setattr(cache_room, "_WISHED", 0)

    def holds(caches: float) -> None:
        def usage(_: Path) -> Usage:
            used = sum(file.stat().st_blocks * 512 for file in folder.iterdir())
            return Usage(0, used, int(caches * SIZE) - used)

        monkeypatch.setattr(cache_room.shutil, "disk_usage", usage)

    return holds


def opened(split: Split, folder: Path, more: int) -> CachedImages:
    """A cache of about `SIZE`, another one for each `more`."""
    return open_cache(split, Canvas(SIDE + more, SIDE - more), folder)


def made(split: Split, folder: Path, more: int) -> Path:
    """Likewise, in use no longer."""
    return opened(split, folder, more).path


def test_the_cache_that_was_not_used_for_longest_makes_way(split: Split, folder: Path, disk: Disk) -> None:
    disk(2.5)
    first, second = (made(split, folder, more) for more in (0, 1))
    assert made(split, folder, 0) == first  # used again
    third = made(split, folder, 2)
    assert set(folder.glob("*.npy")) == {first, third}
    disk(1.5)
    assert made(split, folder, 1) == second  # which is made anew
    assert set(folder.glob("*.npy")) == {second}


def test_a_cache_in_use_stays(split: Split, folder: Path, disk: Disk) -> None:
    disk(2.5)
    used = opened(split, folder, 0)
    images = used.images[:1]  # a part is use, too
    path, unused = used.path, made(split, folder, 1)
    del used
    third = opened(split, folder, 2)
    assert set(folder.glob("*.npy")) == {path, third.path}
    assert not unused.exists()
    with pytest.raises(DiskError, match=r"needs 0 MiB in .*, but 0 MiB are free"):
        opened(split, folder, 3)
    assert set(folder.glob("*.npy")) == {path, third.path}
    assert not list(folder.glob("*.unfinished"))
    del images
    fourth = made(split, folder, 3)
    assert set(folder.glob("*.npy")) == {third.path, fourth}


def test_another_process_uses_a_cache_until_it_ends(spec: DataSpec, split: Split, folder: Path, disk: Disk) -> None:
    code = (
        "import sys; from pathlib import Path; from tuner.config.study import DataSpec; "
        "from tuner.data.cache import open_cache; from tuner.data.coco import load_split; "
        "from tuner.data.letterbox import Canvas; "
        "split = load_split(DataSpec.model_validate_json(sys.argv[1]), 'train')[0]; "
        f"held = open_cache(split, Canvas({SIDE}, {SIDE}), Path(sys.argv[2])); print('open', flush=True); input()"
    )
    command = [sys.executable, "-c", code, spec.model_dump_json(), str(folder)]
    disk(1.5)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        with pytest.raises(DiskError):
            opened(split, folder, 1)
        process.kill()
    second = made(split, folder, 1)
    assert set(folder.glob("*.npy")) == {second}


def test_nothing_is_removed_for_nothing(split: Split, folder: Path, disk: Disk) -> None:
    disk(2.5)
    unused = {made(split, folder, more) for more in (0, 1)}
    other = folder / "notes.npy"
    other.write_bytes(b"a user's file")
    disk(0.5)
    with pytest.raises(DiskError):
        opened(split, folder, 2)
    assert set(folder.glob("*.npy")) == unused | {other}


def test_unused_caches_make_way_for_checkpoints_too(
    split: Split, folder: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk(3.5)
    made(split, folder, 0)
    used = opened(split, folder, 1)
    monkeypatch.setattr(cache_room, "_WISHED", 5 * SIZE)
    new = made(split, folder, 2)
    assert set(folder.glob("*.npy")) == {used.path, new}


def test_what_a_crash_left_goes_and_what_is_being_made_stays(split: Split, folder: Path, disk: Disk) -> None:
    disk(1.5)
    path = made(split, folder, 0)
    being_made = path.rename(path.with_suffix(".unfinished"))
    with FileLock(path.with_suffix(".lock")), pytest.raises(DiskError):
        opened(split, folder, 1)
    assert being_made.exists()
    made(split, folder, 1)
    assert not being_made.exists()


def test_the_room_of_a_cache_that_is_being_made_is_taken(split: Split, folder: Path, disk: Disk) -> None:
    disk(1.5)
    path = made(split, folder, 0)
    path.unlink()
    with FileLock(path.with_suffix(".lock")), path.with_suffix(".unfinished").open("wb") as file:
        file.truncate(SIZE)  # of which nothing is written yet
        with pytest.raises(DiskError):
            opened(split, folder, 1)


def test_a_process_gives_up_the_caches_of_its_trial_before(spec: DataSpec, folder: Path, disk: Disk) -> None:
    disk(2.5)  # both splits at one size
    for size in (64, 63, 62, 64):
        data = prepared_data(spec, size, folder, (size, size))
        assert len(data.train_images) == len(data.val_images) == 12
        assert len(list(folder.glob("*.npy"))) == 2
        del data
    prepared_data.cache_clear()
