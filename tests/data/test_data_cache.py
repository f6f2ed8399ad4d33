import dataclasses
import os
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from queue import Queue

import numpy as np
import pytest
from filelock import FileLock

from tuner.config.errors import DataError, DiskError
from tuner.data import cache, scenes
from tuner.data.cache import open_cache, open_caches
from tuner.data.coco import load_split
from tuner.data.images import read_image
from tuner.data.letterbox import Canvas, canvas_for, letterbox, placements

CANVAS = Canvas(96, 64)


@pytest.fixture
def spec(tmp_path):
    return scenes.generate(tmp_path / "scenes", train=12, val=1, test=1, size=(64, 48))


@pytest.fixture
def split(spec):
    return load_split(spec, "train")[0]


def _in_process(spec, cache_dir, before=""):
    """A command that opens the cache in a process of its own, after some preparation."""
    code = f"""
        import os, resource
        from pathlib import Path
        from tuner.config.study import DataSpec
        from tuner.data import cache
        from tuner.data.coco import load_split
        from tuner.data.letterbox import Canvas
        split, _ = load_split(DataSpec.model_validate_json('''{spec.model_dump_json()}'''), "train")
        {before}
        opened = cache.open_cache(split, Canvas{tuple(CANVAS)}, Path({str(cache_dir)!r}))
        print(opened.path.stat().st_ino, int(opened.images.sum()))
    """
    return [sys.executable, "-c", textwrap.dedent(code)]


@pytest.mark.parametrize("threads", [1, 4])
def test_the_cache_holds_the_letterboxed_images(split, tmp_path, threads):
    cached = open_cache(split, CANVAS, tmp_path / "cache", threads=threads)
    assert cached.images.shape == (12, 64, 96, 3)
    assert cached.images.dtype == np.uint8
    assert not cached.images.flags.writeable
    for i, name in enumerate(split.file_names):
        assert np.array_equal(cached.images[i], letterbox(read_image(split.images_dir / name), CANVAS))
    assert np.array_equal(cached.placements, placements(split.sizes, CANVAS))
    assert cached.content.tolist() == [[5, 0, 90, 64]] * 12


@pytest.mark.parametrize("threads", [1, 4])
def test_each_image_that_is_written_is_a_sign_of_life(split, tmp_path, threads):
    signs = []
    open_cache(split, CANVAS, tmp_path / "cache", threads=threads, alive=lambda *count: signs.append(count))
    assert signs == [(number, 12, "reading") for number in range(1, 13)]
    open_cache(split, CANVAS, tmp_path / "cache", threads=threads, alive=lambda *count: signs.append(count))
    assert len(signs) == 12  # nothing is left to be done


def test_who_waits_for_a_cache_is_alive_while_it_grows(split, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "_LOOK_SECONDS", 0.05)
    path = open_cache(split, CANVAS, tmp_path).path
    whole, unfinished = path.rename(tmp_path / "whole"), path.with_suffix(".unfinished")
    signs = Queue()
    with ThreadPoolExecutor(1) as thread:
        with FileLock(path.with_suffix(".lock")):
            opened = thread.submit(open_cache, split, CANVAS, tmp_path, alive=lambda *sign: signs.put(sign))
            for time_of_change in (1, 2, 3):
                (tmp_path / "changed").touch()
                os.utime(tmp_path / "changed", ns=(0, time_of_change))
                (tmp_path / "changed").rename(unfinished)
                assert signs.get(timeout=60) == (0, len(split), "waiting")
            time.sleep(0.5)
            assert signs.empty()  # who waits for one that hangs, hangs, too
            whole.rename(path)
        assert opened.result().path == path


def test_real_data(real_spec, tmp_path):
    split, _ = load_split(real_spec, "val")
    canvas = canvas_for(split.sizes, 128)
    cached = open_cache(split, canvas, tmp_path, threads=2)
    for i in (0, len(split) // 2, len(split) - 1):
        image = read_image(split.images_dir / split.file_names[i])
        assert np.array_equal(cached.images[i], letterbox(image, canvas))


def test_it_is_built_once_and_anew_when_an_image_changes(split, tmp_path):
    first = open_cache(split, CANVAS, tmp_path / "cache")
    again = open_cache(split, CANVAS, tmp_path / "cache")
    assert first.path == again.path
    assert first.path.stat().st_mtime_ns == again.path.stat().st_mtime_ns
    assert open_cache(split, Canvas(64, 64), tmp_path / "cache").path != first.path
    os.utime(split.images_dir / split.file_names[3], ns=(1, 1))
    assert open_cache(split, CANVAS, tmp_path / "cache").path != first.path


def test_processes_share_one_file(spec, tmp_path):
    running = [
        subprocess.Popen(_in_process(spec, tmp_path / "cache"), stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    said = {process.communicate()[0] for process in running}
    assert [process.returncode for process in running] == [0, 0, 0]
    assert len(said) == 1
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 1


def test_a_crash_while_building_leaves_nothing_half_built(spec, split, tmp_path):
    crash = "seen = []; real = cache.letterbox; cache.letterbox = lambda *a: (seen.append(1), real(*a), len(seen) > 5 "
    crash += "and os._exit(9))[1]"
    died = subprocess.run(_in_process(spec, tmp_path / "cache", crash), check=False)
    assert died.returncode == 9
    assert not list((tmp_path / "cache").glob("*.npy"))
    cached = open_cache(split, CANVAS, tmp_path / "cache")
    assert np.array_equal(cached.images[11], letterbox(read_image(split.images_dir / split.file_names[11]), CANVAS))
    assert not list((tmp_path / "cache").glob("*.unfinished"))


def test_a_damaged_file_is_built_anew(split, tmp_path):
    path = open_cache(split, CANVAS, tmp_path).path
    whole = path.read_bytes()
    path.write_bytes(whole[:1000])
    open_cache(split, CANVAS, tmp_path)
    assert path.read_bytes() == whole


def test_too_little_space_is_said_before_building(split, tmp_path):
    with pytest.raises(DiskError, match=r"needs \d+ MiB in .*, but \d+ MiB are free"):
        open_cache(split, Canvas(2**21, 2**21), tmp_path)


def test_a_disk_that_fills_up_while_building(spec, tmp_path):
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))"
    failed = subprocess.run(
        _in_process(spec, tmp_path / "cache", limit), check=False, stderr=subprocess.PIPE, text=True
    )
    assert "DiskError" in failed.stderr
    assert "cannot be written: File too large" in failed.stderr
    assert {path.suffix for path in (tmp_path / "cache").iterdir()} <= {".lock"}


def test_a_folder_that_cannot_be_made(split, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="cannot be written"):
        open_cache(split, CANVAS, tmp_path / "file" / "cache")


def test_bad_images_are_all_named(split, tmp_path):
    for i in (2, 7):
        path = split.images_dir / split.file_names[i]
        path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(DataError, match=r"2 images cannot be read: .*train-0002\.jpg.*train-0007\.jpg"):
        open_cache(split, CANVAS, tmp_path / "cache", threads=2)
    assert not list((tmp_path / "cache").glob("*.npy"))
    (split.images_dir / split.file_names[2]).unlink()
    with pytest.raises(DataError, match=r"train-0002\.jpg: cannot be read: No such file"):
        open_cache(split, CANVAS, tmp_path / "cache")


def test_bad_images_of_all_splits_are_named_at_once(split, tmp_path):
    other = dataclasses.replace(split, name="val", file_names=split.file_names[5:6], sizes=split.sizes[5:6])
    for i in (2, 5):
        path = split.images_dir / split.file_names[i]
        path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(DataError, match=r"(?s)train: 2 images .*0002\.jpg.*0005\.jpg.*\nval: .*0005\.jpg"):
        open_caches((split, other), CANVAS, tmp_path / "cache")


def test_an_image_of_another_size_than_annotated(make_split, tmp_path):
    split = make_split([np.zeros((30, 40, 3), np.uint8), np.zeros((20, 20, 3), np.uint8)])
    split.sizes[1] = 20, 21
    with pytest.raises(DataError, match=r"1\.png is 20 x 20, not 20 x 21"):
        open_cache(split, CANVAS, tmp_path / "cache")
