"""The live table of a run in a terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tuner.cli.common import duration, metric_name, number
from tuner.cli.fitting import width_of
from tuner.cli.progress import Progress
from tuner.studies.state.records import Assignment
from tuner.trainers.contract import EpochResult
from tuner.workers.devices import SlotPlan
from tuner.workers.messages import Alive, Ended
from tuner.workers.observer import WorkerReport

if TYPE_CHECKING:
    from tuner.studies.reading import StudyReader

_DISPENSABLE = ("", "slot", "running", "time left", "now")
"""Columns in the order in which a narrow terminal goes without them; the bar has no name."""
_NOW_WIDTH = len("evaluating 100%")
"""So that the table keeps its form from one epoch to the next."""


class LiveTable(Progress):
    """Counts, the best so far and the estimated end, and below them a row for each running trial.

    The rows come last, so that the others stay in sight where there are more slots than the terminal has lines.
    """

    def __init__(self, study: StudyReader, console: Console, timeout: float | None = None) -> None:
        super().__init__(study, timeout)
        self._console = console
        self._counted = False
        self._live = Live(self.render(), console=console, auto_refresh=False)

    def worker_started(self, slots: list[SlotPlan]) -> None:
        """Show the table."""
        super().worker_started(slots)
        self._live.start()

    def trial_started(self, assignment: Assignment, slot: SlotPlan) -> None:
        """Show the row."""
        super().trial_started(assignment, slot)
        self.tick()

    def trial_alive(self, assignment: Assignment, sign: Alive) -> None:
        """Show how far it is; there is a column for that once a trial says so."""
        super().trial_alive(assignment, sign)
        self._counted = True
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
        self._console.print(Text(f"{time.strftime('%H:%M:%S')} {text}", style="yellow"))

    def tick(self) -> None:
        """Draw again, with the time left brought up to date."""
        self._live.update(self.render(), refresh=True)

    def worker_ended(self, report: WorkerReport) -> None:
        """Leave the last state on the screen, without rows and times to come."""
        self._live.update(self.render(ended=True), refresh=True)
        self._live.stop()

    def render(self, *, ended: bool = False) -> Group:
        """The lines, and the table below them.

        Args:
            ended: Whether nothing is to come.
        """
        lines = [self.title, self._counts("" if ended else self._end())]
        if not self.repeats:
            lines.append(self._best())
        return Group(*map(Text, lines), *([self._table()] if self.running and not ended else []))

    def _table(self) -> Table:
        """The running trials, in as many columns as the terminal has room for."""
        for dropped in range(len(_DISPENSABLE) + 1):
            table = self._table_without(_DISPENSABLE[:dropped])
            if width_of(table, self._console) <= self._console.width:
                break
        return table

    def _table_without(self, dropped: Sequence[str]) -> Table:
        metric = metric_name(self.study.spec.objective.metric)
        now = ["now"] if self._counted else []
        names = ["trial", "slot", "epoch", *now, "", metric, "running", "time left"]
        shown = [name for name in names if name not in dropped]
        table = Table(expand=False)
        for name in shown:
            left, width = name in ("slot", "now", ""), _NOW_WIDTH if name == "now" else None
            table.add_column(name, justify="left" if left else "right", min_width=width, no_wrap=True)
        for trial in self.running.values():
            cells: dict[str, RenderableType] = {
                "trial": trial.label.removeprefix("trial "),
                "slot": trial.place,
                "epoch": f"{trial.epoch}/{trial.total}",
                "now": Text(trial.now),
                "": ProgressBar(total=trial.total, completed=trial.epoch, width=20),
                metric: number(trial.value),
                "running": duration(time.monotonic() - trial.started),
                "time left": duration(trial.seconds_left()),
            }
            table.add_row(*(cells[name] for name in shown))
        return table

    def _counts(self, end: str) -> str:
        counts = self.counts_text(" · ")
        done = sum(self.counts.values())
        what = "runs" if self.repeats else "trials"
        return f"{done}{f' of {self.total}' if self.total else ''} {what}: {counts}{end}"

    def _end(self) -> str:
        left = self.seconds_left()
        if left == 0:
            return ""
        at = "" if left is None else time.strftime(" (at %H:%M)", time.localtime(time.time() + left))
        return f" · {'they end' if self.repeats else 'study ends'} in {duration(left)}{at}"

    def _best(self) -> str:
        metric = metric_name(self.study.spec.objective.metric)
        if self.best is None:
            return f"best {metric}: no finished trial yet"
        over = self.gain_text()
        mean = f"the mean of {self.default_runs} runs of " if self.default_runs > 1 else ""
        against = f", {over} against {mean}the default config" if over else ""
        return f"best {metric}: {number(self.best[1])} of trial {self.best[0]}{against}"
