"""Ctrl-C and SIGTERM, turned into something that a loop can wait for."""

from __future__ import annotations

import signal
import threading
from multiprocessing import Pipe
from types import FrameType, TracebackType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Context in which SIGINT, SIGTERM and SIGHUP set flags instead of ending the process.

    The first of any asks to save and stop (`requested`); a further SIGINT asks to stop at once (`at_once`).
    Further SIGTERMs change nothing: batch systems send several. A signal that the caller ignores (nohup)
    stays ignored. Outside the main thread, where Python allows no handlers, nothing is caught.

    Attributes:
        waker: Becomes readable with each signal; `clear` empties it.
    """

    def __init__(self) -> None:
        self.requested = False
        self.at_once = False
        self.waker, self._poke = Pipe(duplex=False)
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._caught)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self.waker.close()
        self._poke.close()

    def clear(self) -> None:
        """Empty the waker."""
        while self.waker.poll():
            self.waker.recv_bytes()

    def _caught(self, number: int, frame: FrameType | None) -> None:
        self.at_once = self.at_once or (self.requested and number == signal.SIGINT)
        if not self.requested or self.at_once:
            self._poke.send_bytes(b"!")
        self.requested = True
