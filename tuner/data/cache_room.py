"""Room for a new image cache on its disk: caches that nobody uses make way for it, the longest unused first."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from tuner.config.errors import DiskError

UNFINISHED = ".unfinished"
"""Suffix of a cache while it is being made, with the suffix .lock beside it held."""

_LEAST = 64 * 2**20
"""Bytes that a new cache leaves free on the disk in any case."""
_WISHED = 2 * 2**30
"""Bytes that it leaves free where unused caches can go for that: checkpoints need room, too."""
_NAME = re.compile(r".+-\d+x\d+-[0-9a-f]{24}\.(npy|unfinished)")


def open_used(path: Path) -> BinaryIO | None:
    """Open a cache, which is then in use until the file and all maps of it are closed; None where it is gone."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    with suppress(OSError):  # a file system without locks, on which nothing can be claimed for removal either
        fcntl.flock(file, fcntl.LOCK_SH)
    status = os.fstat(file.fileno())
    if not status.st_nlink:  # removed before the lock was there
        file.close()
        return None
    with suppress(OSError):  # another user's file
        os.utime(file.fileno(), ns=(time.time_ns(), status.st_mtime_ns))
    return file


def reserve(file: BinaryIO, size: int, what: str) -> None:
    """Give an unfinished cache its full size, whose bytes are written later, and count on them from now on.

    Args:
        file: Empty, with the suffix `UNFINISHED`.
        size: In bytes.
        what: It holds, for the message.

    Raises:
        DiskError: The disk is too full, also without the caches that nobody uses, which are left then.
    """
    folder = Path(file.name).parent
    with FileLock(folder / "room.lock"):  # no two take the same room
        free = _free(folder)
        if free < size + _WISHED:
            _remove_unused(folder, size + _LEAST - free, size + _WISHED - free)
            free = _free(folder)
        if free < size + _LEAST:
            raise DiskError(
                f"the image cache needs {(size + _LEAST) / 2**20:.0f} MiB in {folder}, but {max(0, free) / 2**20:.0f} "
                f"MiB are free ({what})",
                hint="Free space there (caches that no process uses would not do), or choose another cache folder.",
            )
        file.truncate(size)


def _free(folder: Path) -> int:
    """Free bytes of the disk, without those that caches in the making will still take."""
    taken = 0
    for file in folder.glob(f"*{UNFINISHED}"):
        with suppress(FileNotFoundError):
            status = file.stat()
            taken += max(0, status.st_size - status.st_blocks * 512)
    return shutil.disk_usage(folder).free - taken


def _remove_unused(folder: Path, least: int, wished: int) -> None:
    """Remove caches that nobody uses until `wished` bytes are gained; none where not even `least` can be."""
    found: list[tuple[bool, int, int, Path]] = []
    for file in folder.iterdir():
        if _NAME.fullmatch(file.name):
            with suppress(FileNotFoundError):
                status = file.stat()
                found.append((file.suffix != UNFINISHED, status.st_atime_ns, status.st_size, file))
    gained, unused = 0, []
    with ExitStack() as claims:  # the space is free once the last of them is closed
        for _, _, size, file in sorted(found):
            if gained < wished and _claimed(file, claims):
                gained += size
                unused.append(file)
        if gained >= least:
            for file in unused:
                with suppress(OSError):
                    file.unlink()


def _claimed(file: Path, claims: ExitStack) -> bool:
    """Whether nobody uses a cache, and nobody makes it; nor can anybody begin to until the claims are closed."""
    if file.suffix == UNFINISHED:  # what a crash has left, unless somebody is at it
        lock = FileLock(file.with_suffix(".lock"))
        try:
            lock.acquire(timeout=0)
        except (Timeout, OSError):
            return False
        claims.callback(lock.release)
        return True
    try:
        opened = claims.enter_context(file.open("r+b"))
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
