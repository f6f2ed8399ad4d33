"""Paths as users write them."""

from __future__ import annotations

import stat
from pathlib import Path

from tuner.config.errors import ConfigError


def expanded(path: Path | str, place: str = "") -> Path:
    """A path with the home folder for `~` or `~name` at its beginning.

    Args:
        path: As it was written.
        place: Where, as `tuner.config.source.where` says it.

    Raises:
        ConfigError: There is no user of that name, or no path can be so.
    """
    if "\0" in str(path):
        raise ConfigError(f"{place}{str(path)!r} is no path: it holds a null character", hint="Leave that out.")
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ConfigError(
            f"{place}{path}: there is no home folder for {Path(path).parts[0]}",
            hint="Write the path out, from / on; a folder whose own name begins with ~ is ./~name.",
        ) from None


def is_folder(path: Path, place: str) -> bool:
    """Whether a path is that of a folder.

    Args:
        path: The path.
        place: Where it was written, as `tuner.config.source.where` says it.

    Raises:
        ConfigError: No path can be so, or the system does not let us look.
    """
    try:
        return stat.S_ISDIR(expanded(path, place).stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise ConfigError(
            f"{place}cannot be looked at: {error.strerror}: {path}", hint="Correct the path, or its permissions."
        ) from None


def check_output(path: Path, *, force: bool) -> None:
    """Check that a file can be written, before what it is to hold is made at some length.

    Raises:
        ConfigError: Its folder does not exist, or it exists and `force` is not set.
    """
    if not path.parent.is_dir():
        raise ConfigError(f"{path.parent}: no such folder", hint="Make it first, or name another file with -o.")
    if path.exists() and not force:
        raise ConfigError(f"{path} exists", hint="Name another file with -o, or replace it with --force.")
