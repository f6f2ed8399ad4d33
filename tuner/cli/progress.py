"""`Progress`: the state of a running study as the live table and the log lines need it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from tuner.cli.common import gain, share_done
from tuner.cli.time_left import TimeLeft, epochs_to_come
from tuner.studies.search.objective import feasible, objective_value
from tuner.studies.state.presence import REPEATS
from tuner.studies.state.records import Assignment, TrialState
from tuner.studies.trust.repeats import Repeats
from tuner.trainers.contract import EpochResult
from tuner.workers.devices import SlotPlan
from tuner.workers.messages import Alive, Ended
from tuner.workers.observer import Observer

if TYPE_CHECKING:
    from tuner.studies.reading import StudyReader


@dataclass
class RunningTrial:
    """A trial that a slot works on.

    Attributes:
        label: What it is called, such as "trial 3".
        place: Slot and device.
        total: Epochs of the full training.
        epoch: Finished epochs.
        now: How far it is since then; empty where that is not known.
        value: Objective after the last of them.
        feasible: Whether the study's constraints were kept then.
        started: `time.monotonic()` at the start of this attempt.
        epochs_here: Epochs of this attempt.
        reported: `time.monotonic()` at the end of the last of them.
    """

    label: str
    place: str
    total: int
    epoch: int
    started: float
    now: str = ""
    value: float | None = None
    feasible: bool = True
    epochs_here: int = 0
    reported: float = 0.0

    def seconds_left(self) -> float | None:
        """Estimated time to the last epoch, if it is not pruned; None before this attempt's first epoch.

        It never grows within an epoch, not even one that takes longer than those before.
        """
        if not self.epochs_here:
            return None
        each, left = (self.reported - self.started) / self.epochs_here, self.total - self.epoch
        return each * left - min(time.monotonic() - self.reported, each) if left else 0.0


class Progress(Observer):
    """Counts and the best value so far, kept up to date by events, without asking the database again.

    Attributes:
        study: What is run.
        running: Trials in slots, by number.
        counts: Trials that ended, or are paused, by state.
        best: Number and value of the best complete trial; None while repeats run, which differ by their seeds:
            the best of them would be luck, and no gain.
        repeats: Whether runs with other seeds are run, not trials.
        title: The study, and whether it is repeated.
        total: Trials, or runs with other seeds, at the end; None without a limit.
    """

    def __init__(self, study: StudyReader, timeout: float | None = None) -> None:
        """Begin with what a study has; `timeout` is how many seconds it may take."""
        self.study = study
        self.running: dict[int, RunningTrial] = {}
        self.counts = {"complete": 0, "pruned": 0, "paused": 0, "failed": 0}
        self.best: tuple[int, float] | None = None
        left = study.trials(states=[TrialState.PAUSED, TrialState.INTERRUPTED], epochs=False)
        self._paused = {trial.number for trial in left if trial.state == TrialState.PAUSED}
        self._left_at = {trial.number: trial.value for trial in left}
        found = study.summary()
        self._left = TimeLeft(epochs_to_come(study, found), timeout)
        for state in self.counts:
            self.counts[state] = found.counts.get(TrialState(state), 0)
        self.total = study.spec.budget.trials
        self.repeats = isinstance(study, Repeats)
        self.title = f"study {study.name.removesuffix(REPEATS)}{', runs with other seeds' if self.repeats else ''}"
        self._own, self._others = found.default_value, found.default_repeats
        if self.repeats:
            self.total = sum(found.counts.values())  # they are all there from the start, waiting
        else:
            self.best = found.best

    def trial_started(self, assignment: Assignment, slot: SlotPlan) -> None:
        """Add a row."""
        self._set_paused(self._paused - {assignment.number})
        self.running[assignment.number] = RunningTrial(
            self.study.label(assignment),
            f"{slot.label} · slot {slot.index}",
            assignment.config.epochs,
            max(0, assignment.first_epoch - 1),
            time.monotonic(),
            value=self._left_at.pop(assignment.number, None),
        )

    def trial_alive(self, assignment: Assignment, sign: Alive) -> None:
        """Update a row."""
        self.running[assignment.number].now = share_done(sign.done, sign.total, sign.what)

    def epoch_reported(self, assignment: Assignment, result: EpochResult) -> None:
        """Update a row."""
        trial = self.running[assignment.number]
        # The last epoch of an interrupted attempt may be reported again; it has cost no time here.
        if result.epoch > trial.epoch:
            trial.epochs_here, trial.reported = trial.epochs_here + 1, time.monotonic()
            self._left.epoch_ended(result.train_seconds + result.eval_seconds)
        trial.epoch = result.epoch
        trial.now = ""
        trial.value = objective_value(self.study.spec.objective.metric, result.metrics)
        trial.feasible = feasible(self.study.spec, result.metrics)

    def trial_ended(self, assignment: Assignment, ended: Ended) -> None:
        """Remove a row and count it."""
        trial = self.running.pop(assignment.number)
        if ended.outcome in ("paused", "interrupted"):
            self._left_at[assignment.number] = trial.value
        if ended.outcome == "paused":
            self._set_paused(self._paused | {assignment.number})
        elif ended.outcome in self.counts:
            self.counts[ended.outcome] += 1
        if ended.outcome == "failed":
            self._left.spare(trial.total - trial.epoch)
        if ended.outcome == "complete" and trial.value is not None:
            self._consider(assignment, trial.value, trial.feasible)

    def seconds_left(self) -> float | None:
        """Estimated time until the study's budget is spent (see `TimeLeft`)."""
        return self._left.seconds()

    def counts_text(self, separator: str) -> str:
        """How many trials ended how; paused ones only where there are any."""
        shown = {state: count for state, count in self.counts.items() if count or state != "paused"}
        return separator.join(f"{count} {state}" for state, count in shown.items())

    @property
    def _defaults(self) -> tuple[float, ...]:
        """The runs of the default config; none where one with another seed is all there is, as for `noise_of`."""
        if self._own is not None:
            return (self._own, *self._others)
        return self._others if len(self._others) > 1 else ()

    @property
    def default_runs(self) -> int:
        """Of how many runs `default` is the mean."""
        return len(self._defaults)

    @property
    def default(self) -> float | None:
        """Value of the default config, over its runs with other seeds, too; None while there is none."""
        return fmean(self._defaults) if self._defaults else None

    def gain_text(self) -> str:
        """What the best trial gains over the default config; empty where it is that, or nothing is known."""
        if self.best is None or self.best[1] == self._own:
            return ""
        return gain(self.best[1], self.default, self.study.spec.objective.direction)

    def _set_paused(self, paused: set[int]) -> None:
        self._paused, self.counts["paused"] = paused, len(paused)

    def _consider(self, assignment: Assignment, value: float, feasible: bool) -> None:
        if self.repeats:
            return
        if assignment.is_default:
            self._own = value
        sign = self.study.spec.objective.sign
        if feasible and (self.best is None or sign * value > sign * self.best[1]):
            self.best = (assignment.number, value)
