"""Log lines for a run whose output is not a terminal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import typer

from tuner.cli import common
from tuner.cli.common import duration, metric_name, number
from tuner.cli.progress import Progress
from tuner.config.errors import plural
from tuner.studies.state.records import Assignment
from tuner.trainers.contract import EpochResult
from tuner.workers.devices import SlotPlan
from tuner.workers.messages import Alive, Ended

if TYPE_CHECKING:
    from tuner.studies.reading import StudyReader


class PlainLog(Progress):
    """One line for each event, and now and then how far a long epoch is."""

    def __init__(self, study: StudyReader, timeout: float | None = None) -> None:
        super().__init__(study, timeout)
        self._told: dict[int, float] = {}
        """When something was said of a running trial, by its number."""

    def worker_started(self, slots: list[SlotPlan]) -> None:
        """Say where trials run."""
        places = ", ".join(f"{slot.label} ({plural(slot.threads, 'thread')})" for slot in slots)
        self._say(f"{self.title}: {plural(len(slots), 'slot')}: {places}")

    def trial_started(self, assignment: Assignment, slot: SlotPlan) -> None:
        """Say with what."""
        super().trial_started(assignment, slot)
        resumed = f" goes on at epoch {assignment.first_epoch}" if assignment.first_epoch > 1 else ""
        label = self.study.label(assignment)
        values = "" if self.repeats else " ".join(f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
                          for key, value in assignment.params.items())  # fmt: skip
        values = values or ("default config" if assignment.is_default else "")
        self._told[assignment.number] = time.monotonic()
        self._say(" · ".join(part for part in (f"{label}{resumed}", f"slot {slot.index}", values) if part))

    def trial_alive(self, assignment: Assignment, sign: Alive) -> None:
        """Say how far it is, where nothing was said of it for long."""
        super().trial_alive(assignment, sign)
        trial, now = self.running[assignment.number], time.monotonic()
        if now - self._told[assignment.number] >= common.LINE_SECONDS:
            self._told[assignment.number] = now
            # Not "epoch 4": while the database is away, epochs are finished that it does not know of.
            finished = f"{trial.epoch}/{trial.total} epochs done"
            self._say(f"{trial.label} · {finished} · {common.count_done(sign.done, sign.total, sign.what)}")

    def epoch_reported(self, assignment: Assignment, result: EpochResult) -> None:
        """Say the epoch's result."""
        super().epoch_reported(assignment, result)
        self._told[assignment.number] = time.monotonic()
        trial = self.running[assignment.number]
        metric = metric_name(self.study.spec.objective.metric)
        self._say(
            f"{trial.label} · epoch {trial.epoch}/{trial.total} · {metric} {number(trial.value)}"
            f" · train {result.train_seconds:.1f} s, evaluation {result.eval_seconds:.1f} s"
        )

    def trial_ended(self, assignment: Assignment, ended: Ended) -> None:
        """Say how, and how the study stands."""
        trial = self.running[assignment.number]
        super().trial_ended(assignment, ended)
        counts = self.counts_text(", ")
        why = f" ({ended.kind}: {' '.join(ended.message.split())})" if ended.kind else ""
        best = ""
        if self.best:
            over = self.gain_text()
            best = f" · best {number(self.best[1])} of trial {self.best[0]}" + (f" ({over})" if over else "")
        left = self.seconds_left()
        to_come = f" · left {duration(left)}" if left and round(left) else ""
        self._say(
            f"{trial.label} {ended.outcome} after epoch {trial.epoch}/{trial.total}"
            f" · {number(trial.value)}{why} · {counts}{best}{to_come}"
        )

    def notice(self, text: str) -> None:
        """Say it."""
        self._say(text)

    def _say(self, text: str) -> None:
        typer.echo(f"{time.strftime('%H:%M:%S')} {text}")
