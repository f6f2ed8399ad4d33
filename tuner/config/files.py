"""Files and folders that are whole or not there, whatever ends the process that writes them."""

from __future__ import annotations

import errno
import fcntl
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tuner.config.errors import ConfigError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
"""Error numbers of a disk, or a user's share of it, that is full."""


@contextmanager
def writing_folder(path: Path) -> Iterator[Path]:
    """A hidden folder beside a file or folder, for what is moved there when it is whole; removed at the end.

    What processes left there that were killed goes, too.

    Args:
        path: What is made. Its folder exists.

    Raises:
        ConfigError: Something cannot be written, in the block, too; names `path` and says why.
    """
    prefix = f".writing-{path.name[:40]}-"  # a name has 255 bytes at most
    try:
        _remove_leftovers(path.parent, prefix)
        with tempfile.TemporaryDirectory(prefix=prefix, dir=path.parent) as name, _marked(Path(name)):
            yield Path(name)
    except OSError as error:
        raise unwritable(path, error) from None


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A path of the same name to write a file to, which then takes the place of `path`.

    Raises:
        ConfigError: It cannot be written; what was there before is still there.
    """
    with writing_folder(path) as folder:
        yield folder / path.name
        (folder / path.name).replace(path)


def write_text(path: Path, text: str) -> None:
    """Write a text file, of which no reader sees half.

    Raises:
        ConfigError: The folder does not exist or is not writable, or its disk is full.
    """
    with written_whole(path) as whole:
        whole.write_text(text, encoding="utf-8")


def unwritable(path: Path, error: OSError) -> ConfigError:
    """What it means to a user that something cannot be written."""
    full = error.errno in NO_ROOM
    return ConfigError(
        f"cannot write {path}: {error.strerror or error}",
        hint="Free some space there, or choose a folder on another disk."
        if full
        else "Choose a folder that is writable.",
    )


def _remove_leftovers(folder: Path, prefix: str) -> None:
    for left in folder.glob(f"{glob.escape(prefix)}????????"):  # as `tempfile` ends names
        with suppress(OSError), _marked(left, wait=False):  # in use, another user's, or gone by now
            shutil.rmtree(left)


@contextmanager
def _marked(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Mark a folder as in use, as long as this process lives.

    Raises:
        OSError: Another process uses it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:
            if not wait:
                raise
        yield
    finally:
        os.close(descriptor)
