"""Paths as users write them."""

from __future__ import annotations

from pathlib import Path

from tuner.config.errors import ConfigError


def expanded(path: Path | str, place: str = "") -> Path:
    """A path with the home folder for `~` or `~name` at its beginning.

    Args:
        path: As it was written.
        place: Where, as `tuner.config.source.where` says it.

    Raises:
        ConfigError: There is no user of that name.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ConfigError(
            f"{place}{path}: there is no home folder for {Path(path).parts[0]}",
            hint="Write the path out, from / on; a folder whose own name begins with ~ is ./~name.",
        ) from None
