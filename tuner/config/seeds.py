"""The seeds that there are."""

from __future__ import annotations

MAX_SEED = 2**31 - 1
"""The largest one; every random number generator that is used takes it."""
