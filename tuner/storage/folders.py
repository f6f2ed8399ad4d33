"""Where files of studies lie on this machine: artifacts, checkpoints and logs, a folder for each study."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from sqlalchemy.engine import URL

from tuner.storage.urls import masked, sqlite_file

OWNER = "study.txt"
"""File in the folder of a study: the study's identity, and its database."""


def studies_folder(url: URL) -> Path:
    """Where the folders of a database's studies lie: beside the SQLite file, else in ./tuner-studies."""
    file = sqlite_file(url)
    return file.parent if file is not None else Path("tuner-studies").absolute()


def study_folder(url: URL, name: str, identity: str) -> Path:
    """The folder of a study, which may not be there yet.

    It is named after the study; where a study of that name in another database has that folder, after its identity,
    too. What an earlier study of the same database has left is taken over, since a database holds one of a name.

    Args:
        url: The database.
        name: Of the study.
        identity: Tells it from all others of its name.
    """
    folder = studies_folder(url) / name
    owner = _owner(folder).splitlines()
    if owner and identity not in owner and masked(url) not in owner:
        return folder.with_name(f"{name}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}")
    return folder


def make_study_folder(url: URL, name: str, identity: str) -> Path:
    """Make the folder of a study, and write down whose it is; see `study_folder`."""
    folder = study_folder(url, name, identity)
    folder.mkdir(parents=True, exist_ok=True)
    owner = f"{identity}\n{masked(url)}\n"
    if _owner(folder) != owner:
        temporary = folder / f"{OWNER}.{os.getpid()}"
        temporary.write_text(owner, encoding="utf-8")
        temporary.replace(folder / OWNER)  # whole or not at all, as several workers may begin together
    return folder


def _owner(folder: Path) -> str:
    """What is written down about whose folder it is; empty where nothing is."""
    file = folder / OWNER
    return file.read_text(encoding="utf-8") if file.is_file() else ""
