"""Epoch-by-epoch progress of one training: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tuner.cli import common
from tuner.cli.fitting import screen
from tuner.config.alive import Activity
from tuner.trainers.contract import EpochResult
from tuner.workers.signs import SIGN_SECONDS, at_most_every


class EpochProgress:
    """Shows each finished epoch, and how far the one at work is.

    Args:
        epochs: In all.
        judged: Whether the validation metrics mean something (not where val is trained on).
        console: Where to; default: standard output.

    Attributes:
        alive: Shows how far it is; may be called as often as one likes.
    """

    def __init__(self, epochs: int, *, judged: bool, console: Console | None = None) -> None:
        self._epochs = epochs
        self._judged = judged
        self._console = console or screen()
        self._bar = Progress(
            TextColumn("epoch"),
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_interactive,
            speed_estimate_period=math.inf,  # rich's 30 s hold no two epochs where one takes longer
        )
        self._task = self._bar.add_task("", total=epochs)
        self._found = ""
        self._told = time.monotonic()
        self.alive = at_most_every(SIGN_SECONDS, self._show_share)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, result: EpochResult) -> None:
        """Tell of one finished epoch."""
        text = f"loss {sum(result.losses.values()):.3f}"
        if self._judged and result.metrics.map is not None:
            text += f", val mAP {result.metrics.map:.3f}"
        if self._console.is_interactive:
            self._found = f"{text} · "
            self._bar.update(self._task, completed=result.epoch, description=text)
        else:
            self._told = time.monotonic()
            seconds = result.train_seconds + result.eval_seconds
            self._console.print(f"epoch {result.epoch}/{self._epochs}: {text}, {seconds:.1f} s", highlight=False)

    def _show_share(self, done: int = 0, total: int = 0, what: Activity = "training") -> None:
        if not total:
            return
        if self._console.is_interactive:
            self._bar.update(self._task, description=self._found + common.share_done(done, total, what))
        elif time.monotonic() - self._told >= common.LINE_SECONDS:
            self._told = time.monotonic()
            self._console.print(common.count_done(done, total, what), highlight=False)
