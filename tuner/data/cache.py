"""Letterboxed images of a split, decoded once per machine and shared by all its processes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TypeAlias

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from tuner.config.alive import SignOfLife, silent
from tuner.config.errors import DataError, DiskError
from tuner.data.cache_room import UNFINISHED, open_used, reserve
from tuner.data.image_checks import check_sizes, raise_unreadable
from tuner.data.images import read_image
from tuner.data.letterbox import PAD_VALUE, Canvas, content_rects, letterbox, placements
from tuner.data.split import Split

_FORMAT = 4
"""Raise when letterboxing or decoding changes, so that older files are not taken for current ones."""
_LOOK_SECONDS = 1.0
"""Between two looks at what another process has made of a cache."""

Images: TypeAlias = "np.memmap[tuple[int, ...], np.dtype[np.uint8]]"


@dataclass(frozen=True, eq=False)
class CachedImages:
    """Letterboxed images of a split in the split's order, mapped from disk.

    Attributes:
        images: (N, H, W, 3) uint8, RGB, read-only; pages are shared with other processes.
        canvas: (W, H) as a `Canvas`.
        placements: (N, 3) float64, as of `tuner.data.letterbox.placements`.
        content: (N, 4) int64, xyxy in whole pixels: the part of the canvas that each image covers.
        path: The file behind `images`.
    """

    images: Images
    canvas: Canvas
    placements: NDArray[np.float64]
    content: NDArray[np.int64]
    path: Path

    def __len__(self) -> int:
        return len(self.images)


def open_cache(
    split: Split, canvas: Canvas, cache_dir: Path, *, threads: int = 1, alive: SignOfLife = silent
) -> CachedImages:
    """Open the letterboxed images of a split, and make them first where they are not there.

    The file is named by a digest of the image files' paths, sizes and times and of the canvas, so a changed
    image makes a new file. One process builds while others wait; the file gets its name only when it is
    whole, so a crash leaves nothing that could be taken for a cache. Where the disk is too full for it,
    files of the folder that no process has open are removed, the longest unused first.

    Args:
        split: Whose images; boxes do not matter.
        canvas: Size of the letterboxed images.
        cache_dir: Folder for the files, made if missing.
        threads: Images that are decoded at the same time.
        alive: Called while the file is being made: for each image with its number, or, as long as another process
            makes it, as "waiting".

    Raises:
        DataError: Images are missing, unreadable or of another size than annotated; names the first ones.
        DiskError: The folder is not writable or the disk too full; says what is needed and what is free.
    """
    shape = (len(split), canvas.height, canvas.width, 3)
    path = cache_dir / f"{split.name}-{canvas.width}x{canvas.height}-{_digest(split, canvas)[:24]}.npy"
    try:
        images = _mapped(path, shape)
        while images is None:
            cache_dir.mkdir(parents=True, exist_ok=True)
            with _locked(path, len(split), alive):
                images = _mapped(path, shape)
                if images is None:
                    _build(split, canvas, path, shape, threads, alive)
                    images = _mapped(path, shape)
    except OSError as error:
        theirs = isinstance(error, PermissionError)
        raise DiskError(
            f"the image cache {path} cannot be {'used' if theirs else 'written'}: {error.strerror or error}",
            hint="Ask who made it to let you read and write in that folder, or work in a folder of your own."
            if theirs
            else "Free space there, or work in a folder on another disk.",
        ) from error
    return CachedImages(
        images=images,
        canvas=canvas,
        placements=placements(split.sizes, canvas),
        content=content_rects(split.sizes, canvas),
        path=path,
    )


def open_caches(
    splits: Sequence[Split], canvas: Canvas, cache_dir: Path, *, threads: int = 1, alive: SignOfLife = silent
) -> list[CachedImages]:
    """`open_cache` for several splits, of which all are looked at before the faults of any are raised.

    Raises:
        DataError: As `open_cache`, for each split with faults.
        DiskError: As `open_cache`.
    """
    opened: list[CachedImages] = []
    faults: dict[str, DataError] = {}
    for split in splits:
        try:
            opened.append(open_cache(split, canvas, cache_dir, threads=threads, alive=alive))
        except DataError as error:
            faults[split.name] = error
    if faults:
        found = "\n".join(f"{name}: {error.message}" for name, error in faults.items())
        raise DataError(found, hint="\n".join(dict.fromkeys(error.hint for error in faults.values())))
    return opened


def _digest(split: Split, canvas: Canvas) -> str:
    total = hashlib.sha256(repr((_FORMAT, PAD_VALUE, tuple(canvas), str(split.images_dir.resolve()))).encode())
    total.update(split.sizes.tobytes())
    for name in split.file_names:
        try:
            status = os.stat(split.images_dir / name)  # noqa: PTH116 (on the path of each trial's start)
        except OSError as error:
            raise DataError(
                f"{split.images_dir / name}: cannot be read: {error.strerror}",
                hint="Put the image back, or remove it from the annotation file.",
            ) from error
        total.update(os.fsencode(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\0"))
    return total.hexdigest()


def _header(shape: tuple[int, ...]) -> bytes:
    """The NumPy header of a C-ordered uint8 array."""
    stream = BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)), "fortran_order": False, "shape": shape}
    )
    return stream.getvalue()


def _mapped(path: Path, shape: tuple[int, ...]) -> Images | None:
    """The images in a file, which is in use as long as they are held; None where it is not there, or not whole."""
    file = open_used(path)
    if file is None:
        return None
    header = _header(shape)
    with file:
        whole = file.read(len(header)) == header and file.seek(0, os.SEEK_END) == len(header) + int(np.prod(shape))
        # NumPy maps it by a duplicate of this handle, which keeps the mark of use.
        return np.memmap(file, np.uint8, "r", len(header), shape) if whole else None


def _unfinished(path: Path) -> Path:
    """A file while it is being made; one name only, so that leftovers of a crash are overwritten."""
    return path.with_suffix(UNFINISHED)


@contextmanager
def _locked(path: Path, count: int, alive: SignOfLife) -> Iterator[None]:
    """Hold the lock of a file of `count` images. Who waits for it is alive as long as the file is seen to change."""
    lock = FileLock(path.with_suffix(".lock"))
    seen = 0
    while not lock.is_locked:
        try:
            lock.acquire(timeout=_LOOK_SECONDS)
        except Timeout:
            changed = _changed_at(_unfinished(path))
            if changed != seen:
                seen = changed
                alive(0, count, "waiting")
    try:
        yield
    finally:
        lock.release()


def _changed_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _build(split: Split, canvas: Canvas, path: Path, shape: tuple[int, ...], threads: int, alive: SignOfLife) -> None:
    """Write the file; the caller holds the lock."""
    unfinished = _unfinished(path)
    unfinished.unlink(missing_ok=True)
    header = _header(shape)
    size = len(header) + int(np.prod(shape))
    try:
        with unfinished.open("wb") as file:
            reserve(file, size, f"{len(split)} images at {canvas.width} x {canvas.height}")
            file.write(header)
            file.flush()
            _write_images(split, canvas, file.fileno(), len(header), threads, alive)
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _write_images(split: Split, canvas: Canvas, file: int, start: int, threads: int, alive: SignOfLife) -> None:
    bytes_per_image = canvas.height * canvas.width * 3
    paths = split.paths
    found = np.zeros_like(split.sizes)

    def write(index: int) -> str | None:
        try:
            image = read_image(paths[index])
        except DataError as error:
            return error.message
        found[index] = image.shape[1], image.shape[0]
        if (found[index] == split.sizes[index]).all():
            # Positioned writes instead of a writable map: a full disk is an error there, not a SIGBUS.
            _write_at(file, letterbox(image, canvas).tobytes(), start + index * bytes_per_image)
        return None

    faults = []
    pool = ThreadPoolExecutor(threads)
    try:
        for number, fault in enumerate(pool.map(write, range(len(paths))), start=1):
            alive(number, len(paths), "reading")
            if fault is not None:
                faults.append(fault)
    finally:
        pool.shutdown(cancel_futures=True)
    raise_unreadable(faults)
    check_sizes(paths, split.sizes, found)


def _write_at(file: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written
