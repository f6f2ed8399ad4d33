"""Those who watch a worker, told in order and only when the worker has time for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tuner.workers.observer import Observer


class Audience:
    """Keeps events until `deliver`, so that a slow observer keeps no slot waiting."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = list(observers)
        self._events: list[Callable[[Observer], None]] = []

    def join(self, observer: Observer) -> None:
        """Have a further observer told from now on."""
        self._observers.append(observer)

    def tell(self, event: Callable[[Observer], None]) -> None:
        """Have every observer told of an event."""
        self._events.append(event)

    def notice(self, text: str) -> None:
        """Have every observer told something that a user should read."""
        self.tell(lambda observer: observer.notice(text))

    def deliver(self) -> None:
        """Tell what has happened; an observer that fails is reported to the others."""
        while self._events:
            event = self._events.pop(0)
            for observer in self._observers:
                try:
                    event(observer)
                except Exception as error:  # whatever a watcher does wrong, training goes on
                    text = f"{type(observer).__name__}: {type(error).__name__}: {error}"
                    for other in self._observers:
                        if other is not observer:
                            other.notice(text)
