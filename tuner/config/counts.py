"""How much of something there may be; imports nothing, for the options of the command line."""

from __future__ import annotations

MAX_COUNT = 2**31 - 1
"""The largest whole number that every supported database holds in a column of integers."""
MAX_SEED = MAX_COUNT
"""The largest seed; every random number generator that is used takes it."""
MAX_SLOTS = 1024
"""Trials at the same time on one machine: each has a process."""
IMAGE_SIZES = (32, 4096)
"""The smallest and the largest image size, in pixels."""
MAX_RUNS = 1000
"""Runs of a config, each with a seed of its own, that may be asked for: all are rows in the database at once."""
