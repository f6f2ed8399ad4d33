"""Fixtures and helpers that all tests share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import pytest


def skip_or_fail(reason: str) -> NoReturn:
    """Skip a test whose means are missing; fail it where TUNER_NO_SKIP says that nothing may be missing."""
    if os.environ.get("TUNER_NO_SKIP") == "1":
        pytest.fail(f"TUNER_NO_SKIP is set, but {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data beside the checkout."""
    folder = Path(__file__).parents[1].parent / "shared"
    if not folder.is_dir():
        skip_or_fail(f"there is no real data at {folder}")
    return folder
