"""A worker's slot and trainer in tests, and an observer that writes down what it is told."""

from tuner.studies.state.records import Assignment
from tuner.trainers.contract import EpochResult
from tuner.workers.devices import SlotPlan
from tuner.workers.messages import Ended
from tuner.workers.observer import Observer, WorkerReport

TRAINER = "fake_trainer:train"
SLOT = [SlotPlan(0, "cpu", 1)]


class Recorder(Observer):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def trial_started(self, assignment: Assignment, slot: SlotPlan) -> None:
        self.events.append(f"start {assignment.number} at {assignment.first_epoch}")

    def epoch_reported(self, assignment: Assignment, result: EpochResult) -> None:
        self.events.append(f"epoch {assignment.number}.{result.epoch}")

    def trial_ended(self, assignment: Assignment, ended: Ended) -> None:
        self.events.append(f"{ended.outcome} {assignment.number}")

    def notice(self, text: str) -> None:
        self.events.append(text)

    def worker_ended(self, report: WorkerReport) -> None:
        self.events.append("end")
