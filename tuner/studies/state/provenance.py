"""Who and what runs a trial: host, process, device and software."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import tuner


@cache
def software_versions() -> dict[str, str]:
    """Versions of what a trial's result depends on."""
    found = {"python": platform.python_version(), "tuner": tuner.__version__}
    for package in ("torch", "torchvision", "optuna", "albumentations", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@cache
def git_commit() -> str | None:
    """The commit of the checkout that this package runs from; None where it is installed."""
    checkout = Path(tuner.__file__).parents[1]
    if not (checkout / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
        said = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None  # there is no git here
    return said.stdout.strip()[:64] or None


TRAINER = "trainer"
"""Under which a trial's versions name what trained it: `BUILT_IN`, or the import path of a user's own trainer."""
BUILT_IN = "built-in"


def own_trainer(versions: Mapping[str, str]) -> str | None:
    """Import path of the user's own trainer among versions; None: the built-in one, or an older version of tuner."""
    found = versions.get(TRAINER)
    return None if found == BUILT_IN else found


@dataclass(frozen=True)
class WorkerInfo:
    """Who runs a trial.

    Attributes:
        device: What it trains on, for the record: "cpu" or the GPU's name and UUID.
    """

    device: str = "cpu"
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    versions: dict[str, str] = field(default_factory=software_versions)
    commit: str | None = field(default_factory=git_commit)
