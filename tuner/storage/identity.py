"""What tells a study from all others, in files beside the database: its name, and when it was begun."""

from __future__ import annotations

_OF = " of "
"""Stands in no study's name."""


def identity(name: str, began: float) -> str:
    """Tells a study from all others of its name, here and in other databases."""
    return f"{name}{_OF}{began:.3f}"


def named(identity: str) -> str:
    """The name in an identity."""
    return identity.rpartition(_OF)[0]


def since(identity: str) -> str:
    """What stays of an identity when its study is renamed; tells the study from all of its database."""
    return identity.rpartition(_OF)[2]
