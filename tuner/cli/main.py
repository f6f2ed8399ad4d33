"""Entry point of the `tuner` command. It imports little, so that Ctrl-C is heeded before all else is imported."""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import NoReturn


def main() -> None:
    """Entry point of the `tuner` command.

    Exits with 1 after an error, with 2 after a wrong call, with 128 + its number after a signal.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:  # as in a background job of a script
        # Half-imported, there is nothing to save; an exception would show as a traceback from within some import.
        signal.signal(signal.SIGINT, lambda number, _: os._exit(128 + number))
    from tuner.cli.app import call, prepared

    command = prepared()
    signal.signal(signal.SIGINT, before)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end)
    call(command)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """End as after an exception, so that unfinished files are removed; at once, should the signal come again."""
    signal.signal(number, signal.SIG_DFL)
    raise SystemExit(128 + number)
