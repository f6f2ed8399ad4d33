"""Entry point of the `tuner` command. It imports little, so that Ctrl-C is heeded before all else is imported."""

from __future__ import annotations

import os
import signal


def main() -> None:
    """Entry point of the `tuner` command; exits with 1 after an error, with 2 after a wrong call, 130 after Ctrl-C."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:  # as in a background job of a script
        # Half-imported, there is nothing to save; an exception would show as a traceback from within some import.
        signal.signal(signal.SIGINT, lambda number, _: os._exit(128 + number))
    from tuner.cli.app import call, prepared

    command = prepared()
    signal.signal(signal.SIGINT, before)
    call(command)
