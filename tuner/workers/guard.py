"""Ending a study whose failures would only repeat."""

from __future__ import annotations

FAILED_IN_A_ROW = 3
"""So many different trials that fail one after the other, whatever for, end the worker."""


class FailureGuard:
    """Counts failed trials; a study never fills up with worthless ones (decision 12 of the design).

    That the same config error twice ends the study is the study's own rule, over all its workers. This one
    catches the rest: bugs, processes that die with every trial. Data that cannot be read end the worker at once.
    """

    def __init__(self) -> None:
        self._in_a_row: set[int] = set()

    def succeeded(self) -> None:
        """A trial brought a result."""
        self._in_a_row.clear()

    def failed(self, trial: int, why: str) -> str:
        """Count a failed trial.

        Returns:
            Why the worker should end; empty when it should go on.
        """
        self._in_a_row.add(trial)
        if len(self._in_a_row) < FAILED_IN_A_ROW:
            return ""
        return f"{FAILED_IN_A_ROW} trials failed one after the other, the last with {why}"
