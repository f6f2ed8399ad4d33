"""`Choice`: a value that a first study proposes, with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Choice:
    """A value of the study's default config and why it was chosen."""

    value: Any
    reason: str
