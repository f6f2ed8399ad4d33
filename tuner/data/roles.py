"""Which split a name says, be it of a file, a list or a folder, and what is trained on where none says that."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tuner.config.errors import DataError

ROLES = {
    "train": ("train", "training", "trainval"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
"""Words by which files and folders say which split they are."""


def role_named(name: str) -> str | None:
    """The split that a whole name says, in capitals or not, with or without a year: Train, val2017; None for others."""
    word = name.lower().rstrip("0123456789")
    return next((role for role, synonyms in ROLES.items() if word in synonyms), None)


def role_of(path: Path) -> str | None:
    """The split that a word of the file's name is, or else its folder's whole name; None where neither is one."""
    for names in (re.split(r"[^a-z]+", path.stem.lower()), [path.absolute().parent.name]):
        found = set(map(role_named, names))
        if role := next((role for role in ROLES if role in found), None):
            return role
    return None


def splits_by_folders(files: Iterable[Path], top: Path) -> tuple[dict[str, list[Path]], list[Path]]:
    """Files under a folder by the split that the first folder says which is named like one, and those of no split."""
    found: dict[str, list[Path]] = {}
    rest: list[Path] = []
    for file in files:
        roles = map(role_named, file.relative_to(top).parts[:-1])
        role = next((role for role in roles if role), None)
        (found.setdefault(role, []) if role else rest).append(file)
    return {role: found[role] for role in ROLES if role in found}, rest


def with_training(
    splits: Mapping[str, list[Path]], rest: Sequence[Path], top: Path, what: str
) -> tuple[dict[str, list[Path]], list[str]]:
    """Splits with one to train on: where none is, what is in no split, but never what is to be validated or tested on.

    Args:
        splits: Files by split, as folders or lists say.
        rest: Files of no split.
        top: The folder of all, for messages.
        what: What these files are, for messages.

    Returns:
        Files by split, and sentences on the rest.

    Raises:
        DataError: There is nothing to train on.
    """
    if "train" in splits:
        left = f"left out: {len(rest)} {what} of {top} that are in no folder of a split, such as "
        return dict(splits), [f"{left}{rest[0]}"] if rest else []
    if not rest:
        raise DataError(
            f"{top} holds {what} of {' and '.join(splits) or 'no split'} alone: there are none to train on",
            hint="Let the name of the folder or list of those to train on be `train`.",
        )
    others = " and ".join(splits)
    notes = [f"nothing in {top} is named train: the {len(rest)} {what} that are not of {others} are trained on"]
    return {"train": list(rest), **splits}, notes if splits else []
