"""How far the timing of an epoch is: a line that changes on a terminal, lines now and then elsewhere, on stderr."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from tuner.cli import common
from tuner.cli.fitting import screen

if TYPE_CHECKING:
    from tuner.workers.messages import Alive
    from tuner.workers.timing import Told


@contextmanager
def timing_progress() -> Iterator[Told]:
    """Show the progress that is told to what is yielded, until the context ends."""
    console = screen(stderr=True)
    typer.echo("Timing an epoch of the default config …", err=True)
    if not console.is_interactive:
        yield _lines()
        return
    with console.status("") as status:
        yield lambda epoch, sign: status.update(f"epoch {epoch}, {common.share_done(sign.done, sign.total, sign.what)}")


def _lines() -> Told:
    said = time.monotonic()

    def say(epoch: int, sign: Alive) -> None:
        nonlocal said
        if time.monotonic() - said >= common.LINE_SECONDS:
            said = time.monotonic()
            done = common.count_done(sign.done, sign.total, sign.what)
            typer.echo(f"{time.strftime('%H:%M:%S')} epoch {epoch}, {done}", err=True)

    return say
