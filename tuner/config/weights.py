"""The files that `TrialConfig.weights` may name."""

from __future__ import annotations

from pathlib import Path

from tuner.config.errors import WeightsError

NAMED = ("none", "default")
"""What is no path."""


def require_file(path: Path) -> None:
    """Check that a file of weights is there.

    Raises:
        WeightsError: It is not.
    """
    if not path.is_file():
        raise WeightsError(f"weights: there is no file {path}", hint="Correct the path, or use weights: none.")
