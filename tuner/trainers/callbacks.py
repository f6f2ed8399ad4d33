"""Training that calls back after each epoch, as the generator that a trainer is.

Ultralytics, Lightning, MMEngine and others run a loop of their own and call hooks; a trainer of `tuner` yields.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue

from tuner.trainers.contract import EpochResult

Report = Callable[[EpochResult], None]
"""What a hook calls with each epoch's result; it returns when the next epoch may begin."""


class Closed(BaseException):
    """Raised by `Report` where no further epoch is wanted, as the trial was pruned.

    No `Exception`, so that a framework that catches those of its hooks lets this one through.
    """


def reported(train: Callable[[Report], object]) -> Iterator[EpochResult]:
    """Run a training in a thread of its own, and yield each epoch that it reports.

    It never runs ahead: `report` returns once the caller asks for the next epoch, and raises `Closed` where the caller
    never will. What the training itself raises, such as `tuner.trainers.contract.Interrupted`, is raised here.

    ```python
    def train(task, stop_requested):
        def fit(report):
            model.add_callback("on_fit_epoch_end", lambda trainer: report(result_of(trainer)))
            model.train(epochs=task.config.epochs)

        yield from reported(fit)
    ```

    Args:
        train: Trains to its end, calling what it is given after each epoch, in the thread that called it.

    Yields:
        The epochs' results.
    """
    results: SimpleQueue[EpochResult | BaseException | None] = SimpleQueue()
    wanted = threading.Semaphore(0)
    closed = False

    def report(result: EpochResult) -> None:
        if not closed:
            results.put(result)
            wanted.acquire()
        if closed:
            raise Closed

    def run() -> None:
        try:
            train(report)
            results.put(None)
        except Closed:
            results.put(None)
        except BaseException as error:
            results.put(error)

    thread = threading.Thread(target=run, name="training", daemon=True)
    thread.start()
    try:
        while (result := results.get()) is not None:
            if isinstance(result, BaseException):
                raise result
            yield result
            wanted.release()
    finally:
        closed = True
        wanted.release()
        thread.join()
