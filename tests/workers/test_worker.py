"""The worker's loop, on a real study with real trial processes and a fake trainer."""

import json
import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from recording import SLOT, TRAINER, Recorder
from sqlalchemy import update

from tuner.cli.progress import Progress
from tuner.config.errors import StorageAway
from tuner.config.trial import TrialConfig
from tuner.storage.tables import StudyRow, TrialRow, now
from tuner.studies.state.provenance import WorkerInfo
from tuner.studies.state.records import Assignment, TrialState
from tuner.studies.study import Study
from tuner.studies.trials import leases
from tuner.trainers.contract import EpochResult
from tuner.workers.devices import SlotPlan
from tuner.workers.messages import Ended
from tuner.workers.observer import Background, Observer, WorkerReport
from tuner.workers.worker import Timing, run_worker


def test_observers_hear_everything_in_order(make_study: Callable[..., Study]) -> None:
    recorder = Recorder()
    report = run_worker(make_study(2, 2), slots=SLOT, trainer=TRAINER, observers=[recorder])
    assert recorder.events == [
        "start 0 at 1", "epoch 0.1", "epoch 0.2", "complete 0",
        "start 1 at 1", "epoch 1.1", "epoch 1.2", "complete 1", "end",
    ]  # fmt: skip
    assert (report.reason, report.complete, report.epochs, report.failed) == ("finished", 2, 4, 0)


def test_an_observer_that_fails_stops_nothing(make_study: Callable[..., Study]) -> None:
    class Broken(Observer):
        def epoch_reported(self, assignment: Assignment, result: EpochResult) -> None:
            raise ValueError("no ink")

    recorder = Recorder()
    report = run_worker(make_study(), slots=SLOT, trainer=TRAINER, observers=[Broken(), recorder])
    assert report.complete == 1
    assert "Broken: ValueError: no ink" in recorder.events


def test_an_end_whose_answer_was_lost_is_told_all_the_same(
    make_study: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    study, recorder = make_study(2, 2), Recorder()
    complete, lost = study.complete, [0]

    def lose_the_answer(assignment: Assignment) -> None:
        complete(assignment)
        if assignment.number in lost:
            lost.remove(assignment.number)
            raise StorageAway("the line was cut")

    monkeypatch.setattr(study, "complete", lose_the_answer)
    timing = Timing(settle=0.1)
    report = run_worker(study, slots=SLOT, trainer=TRAINER, observers=[recorder], timing=timing)
    assert report.complete == 2
    assert [event for event in recorder.events if event.startswith("complete")] == ["complete 0", "complete 1"]
    assert not [event for event in recorder.events if "is stopped" in event]


def test_trials_go_on_while_a_worker_that_died_holds_the_right_to_ask(
    make_study: Callable[..., Study], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "ASK_WAIT", 0.3)
    study = make_study(3, 10)
    (tmp_path / "plan.json").write_text(json.dumps({"0": {"seconds": 0.8}, "*": {"seconds": 0.0}}))

    class Dying(Recorder):
        def trial_started(self, assignment: Assignment, slot: SlotPlan) -> None:
            super().trial_started(assignment, slot)
            if assignment.number == 1:
                self.hold(60.0)

        def epoch_reported(self, assignment: Assignment, result: EpochResult) -> None:
            super().epoch_reported(assignment, result)
            if "complete 1" in self.events and len(self.events) == self.events.index("complete 1") + 4:
                self.hold(-1.0)

        def hold(self, seconds: float) -> None:
            statement = update(StudyRow).values(ask_token="dead", ask_until=now() + seconds)
            study.database.run(lambda session: session.execute(statement) and None)

    recorder = Dying()
    slots = [SlotPlan(index, "cpu", 1) for index in range(2)]
    assert run_worker(study, slots=slots, trainer=TRAINER, observers=[recorder]).complete == 3
    meanwhile = recorder.events[recorder.events.index("complete 1") : recorder.events.index("start 2 at 1")]
    assert sum(event.startswith("epoch 0.") for event in meanwhile) > 2


def test_a_worker_that_starts_lets_others_renew_what_looks_abandoned(make_study: Callable[..., Study]) -> None:
    study = make_study(2, 2)
    first = study.next_trial(WorkerInfo())
    assert first is not None
    expired = update(TrialRow).values(lease_until=now() - 5.0)
    study.database.run(lambda session: session.execute(expired) and None)

    class Returning(Recorder):
        def tick(self) -> None:  # what the worker does that was cut off
            if self.events and self.events[-1].startswith("trial 0: its worker was not heard of"):
                study.renew(first)

        def trial_ended(self, assignment: Assignment, ended: Ended) -> None:
            super().trial_ended(assignment, ended)
            if assignment.number == 1:
                study.interrupt(first)

    recorder = Returning()
    assert run_worker(study, slots=SLOT, trainer=TRAINER, observers=[recorder], timing=Timing(poll=0.2)).complete == 2
    assert [[attempt.outcome for attempt in trial.attempts] for trial in study.trials()] == [
        ["interrupted", "complete"],
        ["complete"],
    ]


def test_a_slow_observer_keeps_no_slot_waiting(make_study: Callable[..., Study]) -> None:
    trained = threading.Event()
    seen: list[int] = []

    class Slow(Observer):
        def epoch_reported(self, assignment: Assignment, result: EpochResult) -> None:
            assert trained.wait(60)
            seen.append(result.epoch)

    class Fast(Observer):
        def trial_ended(self, assignment: Assignment, ended: Ended) -> None:
            trained.set()

    run_worker(make_study(), slots=SLOT, trainer=TRAINER, observers=[Background(Slow()), Fast()])
    assert seen == [1, 2, 3]


def test_a_slow_observer_hears_of_the_last_pause_of_a_trial_alone() -> None:
    heard: list[tuple[int, str]] = []
    all_queued = threading.Event()

    class Slow(Observer):
        def worker_started(self, slots: list[SlotPlan]) -> None:
            assert all_queued.wait(60)

        def trial_ended(self, assignment: Assignment, ended: Ended) -> None:
            heard.append((assignment.number, ended.outcome))

    first, second = (Assignment(n, TrialConfig(), 0, {}, 1, 1, n, False, True, 0.0) for n in (0, 1))
    background = Background(Slow())
    background.worker_started([])
    for assignment, outcome in ((first, "paused"), (second, "paused"), (first, "paused"), (first, "complete")):
        background.trial_ended(assignment, Ended(outcome))  # type: ignore[arg-type]
    all_queued.set()
    background.worker_ended(WorkerReport("finished", "", 1, 0, 0, 0, 3, 1.0, 1.0))
    assert heard == [(1, "paused"), (0, "complete")]


def test_a_full_disk_pauses_the_study_and_ends_its_worker(make_study: Callable[..., Study]) -> None:
    study = make_study(2, 2, action="full disk", epoch=2, times=1, only=0)
    report = run_worker(study, slots=SLOT, trainer=TRAINER)
    assert (report.reason, report.complete) == ("paused", 0)
    assert re.fullmatch(r"\S+ cannot write: no space left on the disk that holds .*", report.message)
    assert (study.orders().control, study.orders().reason) == ("paused", report.message)
    study.resume()
    report = run_worker(study, slots=SLOT, trainer=TRAINER)
    assert report.complete == 2
    assert [attempt.outcome for attempt in study.trials()[0].attempts] == ["disk", "complete"]


def test_a_pause_between_two_trials_ends_nothing(make_study: Callable[..., Study]) -> None:
    study = make_study(2, 2)

    complete = study.complete

    def complete_then_paused(assignment: Assignment) -> None:
        complete(assignment)
        if assignment.number == 0:  # no trial is left to go on with, and none is begun yet
            study.pause()

    study.complete = complete_then_paused  # type: ignore[method-assign]

    class Director(Recorder):
        def notice(self, text: str) -> None:
            super().notice(text)
            if "is paused" in text:
                study.resume()

    report = run_worker(study, slots=SLOT, trainer=TRAINER, observers=[Director()], timing=Timing(heartbeat=0.2))
    assert (report.reason, report.complete) == ("finished", 2)


def test_a_worker_that_finds_the_study_paused_goes_on_when_it_is_resumed(make_study: Callable[..., Study]) -> None:
    study = make_study(2, 1)
    study.pause()

    class Owner(Recorder):
        """Resumes the study once the pause is noticed."""

        def notice(self, text: str) -> None:
            super().notice(text)
            if "is paused" in text:
                study.resume()

    owner = Owner()
    report = run_worker(study, slots=SLOT, trainer=TRAINER, observers=[owner], timing=Timing(heartbeat=0.2))
    assert any("is paused" in event for event in owner.events)
    assert (report.reason, report.complete) == ("finished", 2)


def test_a_trial_that_was_given_to_another_worker_is_left_at_once(make_study: Callable[..., Study]) -> None:
    study = make_study(1, 5)

    class Thief(Recorder):
        """Another worker takes the trial, and is never heard of again."""

        def epoch_reported(self, assignment: Assignment, result: EpochResult) -> None:
            super().epoch_reported(assignment, result)
            if result.epoch == 2 and assignment.attempt_id == 1:
                steal = update(TrialRow).values(token=TrialRow.token + 1, lease_until=0.0)
                study.database.run(lambda session: session.execute(steal) and None)

    thief, progress = Thief(), Progress(study)
    report = run_worker(study, slots=SLOT, trainer=TRAINER, observers=[thief, progress])
    assert "interrupted 0" in thief.events
    assert not progress.running
    assert any("is stopped: trial 0 was given to another worker" in event for event in thief.events)
    (trial,) = study.trials()
    assert trial.state == TrialState.COMPLETE
    assert [epoch.epoch for epoch in trial.epochs] == [1, 2, 3, 4, 5]
    assert report.complete == 1


def test_a_spent_budget_starts_no_process(make_study: Callable[..., Study]) -> None:
    study = make_study()
    run_worker(study, slots=SLOT, trainer=TRAINER)
    report = run_worker(study, slots=SLOT, trainer="no_such_module:train")
    assert (report.reason, report.epochs) == ("finished", 0)


def test_the_time_is_up(make_study: Callable[..., Study]) -> None:
    study = make_study(2, 3, action="hang", epoch=2)
    report = run_worker(study, slots=SLOT, trainer=TRAINER, timeout=2.0, timing=Timing(stop_grace=0.5))
    assert (report.reason, report.interrupted, report.complete) == ("timeout", 1, 0)
    assert [trial.state for trial in study.trials()] == [TrialState.INTERRUPTED]
