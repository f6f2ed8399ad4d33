"""How far a model is through its images: a bar on a terminal, a line now and then elsewhere, both on stderr."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from tuner.cli.fitting import screen

if TYPE_CHECKING:
    from tuner.export.predicting import Told

LINE_SECONDS = 10.0
"""Between two lines where there is no terminal; what takes less is not told."""


@contextmanager
def image_progress() -> Iterator[Told]:
    """Show the progress that is told to what is yielded, until the context ends."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = screen(stderr=True)
    if not console.is_interactive:
        yield _lines()
        return
    columns = (TextColumn("images"), MofNCompleteColumn(), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _lines() -> Told:
    said = time.monotonic()

    def say(done: int, total: int) -> None:
        nonlocal said
        if time.monotonic() - said >= LINE_SECONDS:
            said = time.monotonic()
            typer.echo(f"{time.strftime('%H:%M:%S')} {done} of {total} images", err=True)

    return say
