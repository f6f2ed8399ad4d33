"""Connections on which a server's answer never comes, though its host still acknowledges what is sent."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from typing import Any
from weakref import WeakSet

from sqlalchemy import Engine, event


class Connections:
    """The connections of an engine to PostgreSQL; idle ones, too, because looking whether one lives may stall.

    libpq waits for ever where a pooler, tunnel or balancer has lost the server behind it: TCP's own time-outs see a
    peer that is well. PyMySQL has a time-out for reading.
    """

    def __init__(self, engine: Engine) -> None:
        self._lock = threading.Lock()
        self._made: WeakSet[Any] = WeakSet()
        event.listen(engine, "connect", self._add)

    def abandon(self) -> None:
        """End all of them, from any thread: who waits for an answer there gets an error, and asks on a new one next."""
        with self._lock:
            connections = list(self._made)
        for connection in connections:
            with suppress(Exception):  # it was closed meanwhile
                end = socket.socket(fileno=os.dup(connection.fileno()))
                with end:
                    end.shutdown(socket.SHUT_RDWR)

    def _add(self, connection: Any, record: object) -> None:
        with self._lock:
            self._made.add(connection)
