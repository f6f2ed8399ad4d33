"""Errors that a user can act on: what was found, where, what was expected, what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import StrEnum

SHOWN = 5
"""Examples in a message."""


class TunerError(Exception):
    """Base of every error that a user's input or machine causes; the CLI prints it without a traceback.

    Args:
        message: What was found, where (file, line, field or image) and what was expected.
        hint: The next step, as an imperative sentence; empty when the message says it all.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        # The hint is keyword-only, so the default pickling of exceptions would lose it between processes.
        return (_rebuild, (type(self), self.message, self.hint))


def _rebuild(kind: type[TunerError], message: str, hint: str) -> TunerError:
    return kind(message, hint=hint)


class ConfigError(TunerError):
    """A study file, a search space, a config or a command-line value is not valid."""


class DataError(TunerError):
    """A data set, an annotation file or an image is missing, broken or inconsistent."""


class WeightsError(TunerError):
    """Pretrained or trained weights are missing, out of reach or of another shape."""


class DeviceError(TunerError):
    """The device that was asked for is not there or does not work."""


class DiskError(TunerError):
    """The disk is full or not writable."""


class StorageError(TunerError):
    """The study database cannot be reached or does not hold what was asked for."""


class StorageAway(StorageError):
    """The study database is out of reach for now: a server that is down, a line that is cut, a lock that is kept."""


class NoStudies(StorageError):
    """The study database is not there yet, or nothing was ever begun in it."""


class StudyError(TunerError):
    """A study does not exist, exists with another spec, or cannot do what was asked."""


class FailureKind(StrEnum):
    """Why an attempt ended without a result (decision 12 of the design)."""

    OUT_OF_MEMORY = "out_of_memory"
    DIVERGED = "diverged"
    BAD_DATA = "bad_data"
    BAD_CONFIG = "bad_config"
    DEVICE = "device"
    DISK = "disk"
    KILLED = "killed"
    LOST = "lost"
    ERROR = "error"
    """An exception that nobody foresaw; its traceback is kept in the trial's folder."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which known name is meant by an unknown one.

    Returns:
        "Did you mean 'x'?" where one is close, else the list of the known names; nothing where there are none.
    """
    names = sorted(known)
    if not names:
        return ""
    lower = {known_name.lower(): known_name for known_name in names}
    close = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.6)
    if close:
        return f"Did you mean {lower[close[0]]!r}?"
    return f"Known names: {', '.join(names)}."


def listed(items: Iterable[object]) -> str:
    """The first few items in one line, and how many more there are."""
    texts = [str(item) for item in items]
    more = f" and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return "; ".join(texts[:SHOWN]) + more


def plural(count: float, noun: str) -> str:
    """A count with its noun, as in "1 slot", "2 slots" and "0.5 hours"."""
    shown = f"{count:g}" if isinstance(count, float) else str(count)
    return f"{shown} {noun}{'' if count == 1 else 's'}"
