"""The slots of a worker: their processes are heard, cleared away when they die, and replaced when they are worn."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from tuner.config.errors import FailureKind
from tuner.workers.audience import Audience
from tuner.workers.devices import SlotPlan
from tuner.workers.ledger import Ledger
from tuner.workers.messages import Alive, Ended, EpochReported, ToWorker
from tuner.workers.packing import Packing
from tuner.workers.running import Ending
from tuner.workers.slot import MAX_STARTS, Slot, describe_exit, last_lines


class Pool:
    """The slots of a worker.

    Args:
        plans: One slot each.
        trainer: Import path of the trainer.
        logs: Folder for what trial processes print.
        ledger: Takes what trials report.
        audience: Told of processes that die; the packing of GPUs learns from what it is told.
        ending: Set where no slot works any more.
        silence: See `Prepare`.

    Attributes:
        slots: In the order of their plans; more come where GPUs are packed.
    """

    def __init__(
        self,
        plans: Sequence[SlotPlan],
        trainer: str,
        logs: Path,
        ledger: Ledger,
        audience: Audience,
        ending: Ending,
        silence: float,
    ) -> None:
        self._trainer = trainer
        self._logs = logs
        self._ledger = ledger
        self._audience = audience
        self._ending = ending
        self._silence = silence
        self._packing = Packing(plans)
        audience.join(self._packing)
        self.slots = [self._slot(plan) for plan in plans]

    @property
    def connections(self) -> list[Connection]:
        """Pipes to wait on."""
        return [slot.connection for slot in self.slots if slot.connection is not None]

    def serve(self) -> None:
        """Hear what the trial processes say, and clear away those that have died."""
        for slot in self.slots:
            code = slot.exit_code()  # before the pipe is emptied, so that no last words are lost
            for message in slot.receive():
                self._hear(slot, message)
            if code is not None and slot.up:
                self._clear_away(slot, describe_exit(code))

    def free_idle(self) -> None:
        """End processes that have no trial; their memory is for others."""
        for slot in self.slots:
            if slot.up and self._ledger.of(slot) is None:
                slot.kill()

    def repack(self) -> bool:
        """Follow what was measured of trials that share a GPU; whether there is a slot more."""
        for slot in self.slots:
            slot.put_aside = slot.put_aside or slot.plan.index in self._packing.too_many
            if slot.put_aside and slot.up and self._ledger.of(slot) is None:
                slot.kill()
        plan = self._packing.another()
        if plan is None:
            return False
        self.slots.append(self._slot(plan))
        return True

    def device_worked(self, slot: Slot, ended: Ended) -> None:
        """Learn from the end of a trial about the slot's device."""
        if ended.kind is not FailureKind.DEVICE:
            slot.device_works()
        elif slot.device_failed():
            self._audience.notice(f"slot {slot.plan.index}: {slot.plan.label} fails again and again and is put aside")
            if all(slot.closed for slot in self.slots):
                self._ending.because("failed", f"no device of this host works: {ended.message}")

    def close(self, grace: float) -> None:
        """Let all trials save their state, and end all processes, those that take longer than `grace` s by force."""
        for slot in self.slots:
            slot.hang_up()  # a closed pipe tells the process to save
        deadline = time.monotonic() + grace
        for slot in self.slots:
            slot.wait(max(0.0, deadline - time.monotonic()))

    def _slot(self, plan: SlotPlan) -> Slot:
        log = self._logs / f"worker-{os.getpid()}-slot-{plan.index}.log"
        return Slot(plan, self._trainer, log, self._silence)

    def _hear(self, slot: Slot, message: ToWorker) -> None:
        running = self._ledger.of(slot)
        if running is None:
            return
        if isinstance(message, EpochReported):
            self._ledger.report(running, message.result)
        elif isinstance(message, Alive):
            running.heard = time.monotonic()
            if message.total > 0:
                self._audience.tell(lambda observer: observer.trial_alive(running.assignment, message))
        elif isinstance(message, Ended):
            slot.succeeded()
            if message.worn:
                slot.kill()
                self._audience.notice(f"slot {slot.plan.index}: the trial process is replaced: {message.worn}")
            self._ledger.end(running, message)

    def _clear_away(self, slot: Slot, how: str) -> None:
        was_ready = slot.ready
        slot.bury()
        running = self._ledger.of(slot)
        if running is not None and running.ended is None:
            killed = Ended("failed", FailureKind.KILLED, f"the trial process died: {how}")
            self._ledger.end(running, killed if was_ready else Ended("interrupted"))
        if was_ready:
            self._audience.notice(f"slot {slot.plan.index}: the trial process died ({how}); it is started again")
            return
        why = last_lines(slot.log, 1)
        self._audience.notice(f"slot {slot.plan.index}: the trial process did not start ({how}): {why}")
        if all(slot.closed for slot in self.slots):
            message = f"no trial process could be started, {MAX_STARTS} times: {why}\nSee {slot.log}."
            self._ending.because("failed", message)
