"""The live table of a run in a terminal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tuner.cli.common import duration, metric_name, number
from tuner.cli.progress import Progress
from tuner.studies.state.records import Assignment
from tuner.trainers.contract import EpochResult
from tuner.workers.devices import SlotPlan
from tuner.workers.messages import Ended
from tuner.workers.observer import WorkerReport

if TYPE_CHECKING:
    from tuner.studies.reading import StudyReader


class LiveTable(Progress):
    """A row for each running trial; counts, the best so far and the estimated end below."""

    def __init__(self, study: StudyReader, console: Console) -> None:
        super().__init__(study)
        self._live = Live(self.render(), console=console, auto_refresh=False)

    def worker_started(self, slots: list[SlotPlan]) -> None:
        """Show the table."""
        super().worker_started(slots)
        self._live.start()

    def trial_started(self, assignment: Assignment, slot: SlotPlan) -> None:
        """Show the row."""
        super().trial_started(assignment, slot)
        self.tick()

    def epoch_reported(self, assignment: Assignment, result: EpochResult) -> None:
        """Show the epoch."""
        super().epoch_reported(assignment, result)
        self.tick()

    def trial_ended(self, assignment: Assignment, ended: Ended) -> None:
        """Say why a trial failed; update the counts."""
        super().trial_ended(assignment, ended)
        if ended.kind:
            self.notice(f"{self.study.label(assignment)}: {ended.kind}: {ended.message}")
        self.tick()

    def notice(self, text: str) -> None:
        """Print a line above the table."""
        self._live.console.print(Text(f"{time.strftime('%H:%M:%S')} {text}", style="yellow"))

    def tick(self) -> None:
        """Draw again, with the time left brought up to date."""
        self._live.update(self.render(), refresh=True)

    def worker_ended(self, report: WorkerReport) -> None:
        """Leave the last state on the screen."""
        self.tick()
        self._live.stop()

    def render(self) -> Group:
        """The table and the lines below it."""
        metric = metric_name(self.study.spec.objective.metric)
        table = Table(title=self.title, title_justify="left", expand=False)
        for column in ("trial", "slot", "epoch", "", metric, "time left"):
            table.add_column(column, justify="left" if column in ("slot", "") else "right")
        for trial in self.running.values():
            table.add_row(
                trial.label.removeprefix("trial "),
                trial.place,
                f"{trial.epoch}/{trial.total}",
                ProgressBar(total=trial.total, completed=trial.epoch, width=20),
                number(trial.value),
                duration(trial.seconds_left()),
            )
        lines = [self._counts()] if self.repeats else [self._counts(), self._best(metric)]
        return Group(table, *map(Text, lines))

    def _counts(self) -> str:
        counts = self.counts_text(" · ")
        of = self.total
        done = sum(self.counts.values())
        left = self.seconds_left()
        end = "" if left is None else time.strftime(" (at %H:%M)", time.localtime(time.time() + left))
        what, ends = ("runs", "they end") if self.repeats else ("trials", "study ends")
        return f"{done}{f' of {of}' if of else ''} {what}: {counts} · {ends} in {duration(left)}{end}"

    def _best(self, metric: str) -> str:
        if self.best is None:
            return f"best {metric}: no finished trial yet"
        over = self.gain_text()
        mean = f"the mean of {self.default_runs} runs of " if self.default_runs > 1 else ""
        against = f", {over} against {mean}the default config" if over else ""
        return f"best {metric}: {number(self.best[1])} of trial {self.best[0]}{against}"
