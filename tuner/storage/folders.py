"""Where files of studies lie on this machine: artifacts, checkpoints and logs, a folder for each study."""

from __future__ import annotations

import hashlib
import shutil
import uuid
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

from sqlalchemy.engine import URL

from tuner.storage.identity import named, since
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
    too. What an earlier study of the same database has left is taken over, since a database holds one of a name. The
    folder of a study that was renamed has its old name until `settle_study_folders` or `make_study_folder`.

    Args:
        url: The database.
        name: Of the study.
        identity: Tells it from all others (see `tuner.storage.identity`).
    """
    return known_study_folder(url, name, identity) or _new_folder(url, name, identity)


def make_study_folder(url: URL, name: str, identity: str) -> Path:
    """Make the folder of a study, or name it anew, and write down whose it is; see `study_folder`."""
    folder = study_folder(url, name, identity)
    if folder.is_dir() and identity not in _owner(folder) and (new := _new_folder(url, name, identity)) != folder:
        if new.exists():  # left by another study
            new = _beside(url, name, identity)
        with suppress(FileNotFoundError):  # another worker was faster
            folder.rename(new)
        folder = new
    folder.mkdir(parents=True, exist_ok=True)
    owner = f"{identity}\n{masked(url)}\n"
    if _owner(folder) != [identity, masked(url)]:
        temporary = folder / f"{OWNER}.{uuid.uuid4().hex}"
        temporary.write_text(owner, encoding="utf-8")
        temporary.replace(folder / OWNER)  # whole or not at all, as several workers may begin together
    return folder


def settle_study_folders(url: URL, studies: Iterable[tuple[str, str]]) -> None:
    """Name the folders of studies that were renamed anew, as none of them was left by an earlier study.

    Args:
        url: The database.
        studies: All that it holds: name and identity. Another machine may have found the new name.
    """
    now = {since(identity): (name, identity) for name, identity in studies}
    for file in sorted(studies_folder(url).glob(f"*/{OWNER}")):
        owner = _owner(file.parent)
        study = now.get(since(owner[0])) if masked(url) in owner else None
        if study is not None and study[1] != owner[0]:
            with suppress(OSError):  # it may be another user's, who runs the study
                make_study_folder(url, *study)


def known_study_folder(url: URL, name: str, identity: str) -> Path | None:
    """The folder that is the study's by what is written down there, whatever the study was called then; None: none."""
    for folder in (studies_folder(url) / name, _beside(url, name, identity)):
        if identity in _owner(folder):
            return folder
    for file in sorted(studies_folder(url).glob(f"*/{OWNER}")):
        owner = _owner(file.parent)
        if masked(url) in owner and since(owner[0]) == since(identity):
            return file.parent
    return None


def left_folders(url: URL, names: Collection[str], identities: Iterable[str]) -> list[Path]:
    """Folders of studies that are gone, as where their deletion was cut off, or called on another machine.

    Args:
        url: The database.
        names: Of those studies.
        identities: Of all studies that the database holds.
    """
    held = {since(identity) for identity in identities}
    owners = ((file.parent, _owner(file.parent)) for file in sorted(studies_folder(url).glob(f"*/{OWNER}")))
    return [
        folder
        for folder, owner in owners
        if masked(url) in owner and named(owner[0]) in names and since(owner[0]) not in held
    ]


def remove_study_folder(folder: Path) -> None:
    """Remove the folder of a study; what says whose it is goes last, so that the rest is found should this be cut off.

    Raises:
        OSError: Something cannot be removed.
    """
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != OWNER:
            path.unlink()
    shutil.rmtree(folder)


def _new_folder(url: URL, name: str, identity: str) -> Path:
    folder = studies_folder(url) / name
    owner = _owner(folder)
    return _beside(url, name, identity) if owner and masked(url) not in owner else folder


def _beside(url: URL, name: str, identity: str) -> Path:
    return studies_folder(url) / f"{name}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"


def _owner(folder: Path) -> list[str]:
    """What is written down about whose folder it is, line by line; empty where nothing is."""
    file = folder / OWNER
    return file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
