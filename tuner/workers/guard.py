"""Ending a study whose failures would only repeat."""

from __future__ import annotations

from tuner.config.errors import FailureKind

SAME_CONFIG_ERROR = 2
"""So many trials with the same config error end the study."""
FAILED_IN_A_ROW = 3
"""So many different trials that fail one after the other, whatever for, end the study."""


class FailureGuard:
    """Counts failures; a study never fills up with worthless trials (decision 12 of the design).

    Out of memory and divergence are results, which the sampler learns from, not failures.
    """

    def __init__(self) -> None:
        self._config_errors: dict[str, int] = {}
        self._in_a_row: set[int] = set()

    def succeeded(self) -> None:
        """A trial brought a result."""
        self._in_a_row.clear()

    def failed(self, trial: int, kind: FailureKind, message: str) -> str:
        """Count a failure.

        Returns:
            Why the study should end; empty when it should go on.
        """
        if kind in (FailureKind.OUT_OF_MEMORY, FailureKind.DIVERGED):
            return ""
        self._in_a_row.add(trial)
        if kind is FailureKind.BAD_CONFIG:
            self._config_errors[message] = self._config_errors.get(message, 0) + 1
            if self._config_errors[message] >= SAME_CONFIG_ERROR:
                return f"the same config error in {SAME_CONFIG_ERROR} trials: {message}"
        if len(self._in_a_row) >= FAILED_IN_A_ROW:
            return f"{FAILED_IN_A_ROW} trials failed one after the other, the last with {kind}: {message}"
        return ""
