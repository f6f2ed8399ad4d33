"""What a trainer reports, checked before anybody relies on it: trainers are users' own, too."""

from __future__ import annotations

import math
import operator
from collections.abc import Generator, Iterable, Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from tuner.config.objective import COCO_NAMES
from tuner.config.problems import explain
from tuner.evaluation.metrics import Metrics
from tuner.trainers.contract import Diverged, EpochResult, StopRequested, Trainer, TrainingTask, TrialFailed

_MOST_BYTES = 2**63 - 1
"""That databases can hold."""


def epochs_of(trainer: Trainer, task: TrainingTask, stop_requested: StopRequested) -> Generator[Any]:
    """What a trainer yields. To exit, as scripts do and what parses their arguments, is to end: the process lives on.

    Raises:
        TrialFailed: It returns nothing that yields.
        RuntimeError: It exits with an error.
    """
    try:
        returned: Any = trainer(task, stop_requested)
        if not isinstance(returned, Iterable):
            raise TrialFailed(
                f"the trainer returned {'None' if returned is None else f'a {type(returned).__name__}'}, expected an "
                "iterator of EpochResult: let it `yield` one after each epoch"
            )
        yield from returned
    except SystemExit as end:
        if end.code:
            raise RuntimeError(f"the trainer called sys.exit({end.code!r})") from end


def checked(result: EpochResult, task: TrainingTask, previous: int | None) -> EpochResult:
    """An epoch as its trainer reports it, with Python's own numbers instead of NumPy's or torch's.

    Args:
        result: What the trainer yielded.
        task: What it was told.
        previous: The epoch that it yielded before; None: this is the first of the attempt.

    Raises:
        Diverged: The mAP is not a finite number.
        TrialFailed: Anything else is not what the contract says; names the field, what was found and what expected.
    """
    if not isinstance(result, EpochResult):
        raise TrialFailed(f"the trainer yielded a {type(result).__name__}, expected an EpochResult")
    epoch = _epoch(result.epoch, task, previous)
    if not isinstance(result.metrics, Metrics):
        raise _wrong("metrics", epoch, type(result.metrics).__name__, "Metrics")
    try:  # again, since `Metrics.model_construct` checks nothing
        metrics = Metrics.model_validate(result.metrics.model_dump())
    except ValidationError as error:
        raise wrong_metrics(error) from None
    shares = {name: getattr(metrics, name) for name in COCO_NAMES}
    shares |= {f"class_map[{name!r}]": value for name, value in metrics.class_map.items()}
    for name, share in shares.items():  # COCO's -1, and percents, would enter objectives and gains
        if share is not None and not 0 <= share <= 1:
            raise _wrong(f"metrics.{name}", epoch, repr(share), "a share from 0 to 1, or None where it is undefined")
    return replace(
        result,
        epoch=epoch,
        metrics=metrics,
        losses={
            str(name): _number(f"losses[{name!r}]", epoch, loss)
            for name, loss in _mapping("losses", epoch, result.losses).items()
        },
        learning_rate=_amount("learning_rate", epoch, result.learning_rate),
        train_seconds=_amount("train_seconds", epoch, result.train_seconds),
        eval_seconds=_amount("eval_seconds", epoch, result.eval_seconds),
        cpu_seconds=_amount("cpu_seconds", epoch, result.cpu_seconds),
        peak_memory=_bytes(epoch, result.peak_memory),
        executed={str(name): str(what) for name, what in _mapping("executed", epoch, result.executed).items()},
    )


def wrong_metrics(error: ValidationError) -> TrialFailed:
    """What it means that `Metrics` cannot be made of what a trainer has measured."""
    problems = error.errors()
    found = "\n".join(
        f"metrics.{'.'.join(map(str, problem['loc']))}: {explain(problem, Metrics, problem['loc'])}"
        for problem in problems
    )
    diverged = any(problem["type"] == "finite_number" and problem["loc"] == ("map",) for problem in problems)
    return Diverged(found) if diverged else TrialFailed(found)


def _epoch(found: Any, task: TrainingTask, previous: int | None) -> int:
    """The number of a reported epoch, which is the next one; the first of an attempt may have been reported before."""
    last = task.config.epochs
    least, most = (1, min(task.first_epoch, last)) if previous is None else (previous + 1, previous + 1)
    if most > last:
        raise TrialFailed(f"epoch is {found!r} after the last one, {last}; expected no further one")
    expected = str(most) if least == most else f"{least} to {most}"
    after = "as the first of this attempt" if previous is None else f"after {previous}"
    try:
        epoch = operator.index(found)
    except TypeError:
        epoch = 0
    if not least <= epoch <= most:
        raise TrialFailed(f"epoch is {found!r} {after}, expected the whole number {expected}")
    return epoch


def _mapping(name: str, epoch: int, found: Any) -> Mapping[Any, Any]:
    if not isinstance(found, Mapping):
        raise _wrong(name, epoch, repr(found), "a mapping of names")
    return found


def _number(name: str, epoch: int, found: Any) -> float:
    try:
        return float(found)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # the last is torch's, of several elements
        raise _wrong(name, epoch, repr(found), "a number") from None


def _amount(name: str, epoch: int, found: Any) -> float:
    amount = _number(name, epoch, found)
    if not (math.isfinite(amount) and amount >= 0):
        raise _wrong(name, epoch, repr(found), "a finite number of at least 0")
    return amount


def _bytes(epoch: int, found: Any) -> int:
    _amount("peak_memory", epoch, found)
    amount = int(found)
    if amount > _MOST_BYTES:
        raise _wrong("peak_memory", epoch, repr(found), f"at most {_MOST_BYTES} bytes")
    return amount


def _wrong(name: str, epoch: int, found: str, expected: str) -> TrialFailed:
    return TrialFailed(f"{name} of epoch {epoch} is {found}, expected {expected}")
