"""`TimeLeft`: how long a study still takes, by the epochs that are to come."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from tuner.studies.search.plan import expected_epochs
from tuner.studies.state.records import StudySummary, TrialState
from tuner.studies.trust.repeats import Repeats

if TYPE_CHECKING:
    from tuner.studies.reading import StudyReader


class TimeLeft:
    """An estimate that takes the epochs to come for as long, on average, as those that this process has seen end.

    Args:
        epochs: How many are to come; None where nothing limits them.
        timeout: Seconds until no trial is begun any more, or all are stopped; None without a limit.
    """

    def __init__(self, epochs: float | None, timeout: float | None) -> None:
        self._epochs = epochs
        self._ended = 0
        self._begun = self._last = time.monotonic()
        self._deadline = math.inf if timeout is None else self._begun + timeout

    def epoch_ended(self, seconds: float) -> None:
        """Count an epoch that took so many seconds."""
        self._last = time.monotonic()
        if not self._ended:  # until then, processes were started, which the epochs to come need no more
            self._begun = max(self._begun, self._last - seconds)
        self._ended += 1

    def spare(self, epochs: int) -> None:
        """Take off epochs that were to come and will not, as their trial failed."""
        if self._epochs is not None:
            self._epochs -= epochs

    def seconds(self) -> float | None:
        """Seconds to the end; None before the first epoch, or where there is no limit.

        It does not grow while an epoch lasts, not even one that takes longer than those before.
        """
        if not self._ended or (self._epochs is None and self._deadline == math.inf):
            return None
        now, left = time.monotonic(), math.inf
        if self._epochs is not None:
            each = (self._last - self._begun) / self._ended
            left = (self._epochs - self._ended) * each - min(now - self._last, each)
        return max(0.0, min(left, self._deadline - now))


def epochs_to_come(study: StudyReader, found: StudySummary) -> float | None:
    """How many epochs a study, or its repeats, will train yet, as the pruner is expected to let them run.

    None where neither trials nor epochs have a limit.

    Args:
        study: Which.
        found: Its summary.
    """
    if isinstance(study, Repeats):
        return sum(run.config.epochs - run.last_epoch for run in study.unfinished())
    spec, length, limits = study.spec, int(study.spec.defaults["epochs"]), []
    if spec.budget.trials is not None:
        failed = found.counts[TrialState.FAILED] * length
        limits.append(expected_epochs(spec.pruner, length, spec.budget.trials) - failed)
    if spec.budget.epochs is not None:
        limits.append(spec.budget.epochs)
    return max(0.0, min(limits) - found.epochs) if limits else None
