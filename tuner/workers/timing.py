"""What an epoch takes on this machine: trained for real, in trial processes, in all slots at the same time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import TypeAlias

from tuner.config.errors import DeviceError, TunerError
from tuner.config.study import DataSpec
from tuner.config.trial import TrialConfig
from tuner.trainers.contract import NO_EPOCH, TrainingTask
from tuner.workers.devices import SlotPlan
from tuner.workers.interrupts import Interrupts
from tuner.workers.messages import Alive, Ended, EpochReported, Run, Verdict
from tuner.workers.slot import Slot, describe_exit, last_lines

Told: TypeAlias = Callable[[int, Alive], None]
"""Called with the number of the epoch that a slot trains, and how far it is."""


class TimingFailed(TunerError):
    """The default config could not be trained, so nothing can be planned."""


def time_epoch(
    config: TrialConfig,
    data: DataSpec,
    plans: Sequence[SlotPlan],
    trainer: str,
    folder: Path,
    *,
    long: float,
    told: Told = lambda epoch, sign: None,
) -> float:
    """Wall time of an epoch in seconds, its evaluation included: of the second, since the first warms up.

    Args:
        config: What to train, with resolved anchors.
        data: The data set.
        plans: The slots; all of them train it at once, as in a study.
        trainer: Import path of the trainer.
        folder: For checkpoints, caches and logs; may be removed afterwards.
        long: Seconds from which a first epoch is taken as it is, because warming up is little of it.
        told: Of the first slot's progress, every few seconds at most.

    Raises:
        TimingFailed: The config cannot be trained.
        DeviceError: A trial process died.
        KeyboardInterrupt: SIGINT, SIGTERM or SIGHUP asked to stop; a caller can clean up after all of them.
    """
    slots = [Slot(plan, trainer, folder / f"slot-{plan.index}.log") for plan in plans]
    with Interrupts() as interrupts:
        try:
            for slot in slots:
                slot.start()
                slot.send(Run(_task(config, data, slot.plan, folder)))
            return statistics.fmean(_times(slots, long, interrupts, told))
        finally:
            for slot in slots:
                slot.kill()


def _times(slots: Sequence[Slot], long: float, interrupts: Interrupts, told: Told) -> list[float]:
    """The timed epoch of each slot."""
    found: dict[int, float] = {}
    first: dict[int, float] = {}
    since: dict[int, float] = {}
    epoch = 1
    while len(found) < len(slots):
        wait([interrupts.waker, *(slot.connection for slot in slots if slot.connection is not None)], timeout=1.0)
        if interrupts.requested:
            raise KeyboardInterrupt
        for slot in slots:
            index, code = slot.plan.index, slot.exit_code()
            for message in slot.receive():
                if isinstance(message, Alive) and message.total and slot is slots[0]:
                    told(epoch, message)
                if isinstance(message, Ended) and (message.outcome == "failed" or index not in first):
                    why = message.message or NO_EPOCH
                    raise TimingFailed(f"the default config cannot be trained: {why}")
                if isinstance(message, Ended):  # a trainer may end before it has trained all its epochs
                    found.setdefault(index, first[index])
                if isinstance(message, EpochReported) and index not in found:
                    result, now = message.result, time.monotonic()
                    epoch = result.epoch + 1 if slot is slots[0] else epoch
                    took = first.setdefault(index, result.train_seconds + result.eval_seconds)
                    if index in since or took >= long:
                        found[index] = now - since[index] if index in since else took
                    since[index] = now
                    slot.send(Verdict(prune=len(found) == len(slots)))  # it keeps its slot busy until all are timed
            if code is not None and index not in found:
                raise DeviceError(
                    f"the trial process that should time an epoch died ({describe_exit(code)}): "
                    f"{last_lines(slot.log, 1)}"
                )
    return list(found.values())


def _task(config: TrialConfig, data: DataSpec, plan: SlotPlan, folder: Path) -> TrainingTask:
    return TrainingTask(
        config=config.model_copy(update={"epochs": max(2, config.epochs)}),  # the second is the one that is timed
        seed=0,
        data=data,
        device=plan.device,
        threads=plan.threads,
        workdir=folder / f"slot-{plan.index}",
        cache_dir=folder / "cache",
    )
