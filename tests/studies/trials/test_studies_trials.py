"""Trials from ask to end, over every database."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from sqlalchemy import event, update
from study_cases import EPOCHS, WORKER, forget_worker, metrics, result, train

from tuner.config.errors import FailureKind, StorageError
from tuner.config.trial import TrialConfig
from tuner.data.split import Split
from tuner.models import anchors
from tuner.storage.tables import StudyRow, TrialRow, now
from tuner.studies.opening import open_study
from tuner.studies.state.records import LeaseLost, TrialState
from tuner.studies.study import Study
from tuner.studies.trials import ending, journal
from tuner.studies.trials.leases import AskBusy

Begin = Callable[..., Study]
State = optuna.trial.TrialState


def test_the_first_trial_is_the_default_config(sqlite_url: str, begin: Begin) -> None:
    study = begin(sqlite_url)
    first = study.next_trial(WORKER)
    second = study.next_trial(WORKER)
    assert first is not None
    assert second is not None
    expected = TrialConfig(epochs=EPOCHS, image_size=96)
    assert first.config.model_copy(update={"anchor_sizes": None}) == expected
    assert first.config.anchor_sizes is not None
    assert first.is_default
    assert not second.is_default
    assert (first.number, second.number) == (0, 1)
    assert first.seed == second.seed == 0
    assert second.config != first.config
    assert second.params == {
        "learning_rate": second.config.learning_rate,
        "augment.mosaic": second.config.augment.mosaic,
        "anchors": second.config.anchors,
    }
    train(study, first, 0.5)
    default = study.default_trial()
    assert default is not None
    assert (default.state, default.value, default.config) == (TrialState.COMPLETE, 0.5, first.config)
    attributes = study.optuna.trials[0].user_attrs
    assert attributes["seed"] == first.seed
    assert all(len(str(value)) < 60 for value in attributes.values())  # the dashboard shows each in one line


def test_a_curve_is_the_same_here_and_in_optuna(studies_url: str, begin: Begin) -> None:
    study = begin(studies_url)
    assignment = study.next_trial(WORKER)
    assert assignment is not None
    assert not train(study, assignment, 0.45)
    record = study.best()
    assert record is not None
    assert [epoch.value for epoch in record.epochs] == [pytest.approx(0.05 * e) for e in range(1, EPOCHS + 1)]
    assert record.epochs[0].metrics == metrics(0.05)
    assert record.epochs[0].losses == {"box": 1.0, "class": None}
    assert record.operating_point is not None
    assert record.operating_point.confidence == 0.4
    assert record.cost.seconds == pytest.approx(2.0 * EPOCHS)
    assert record.cost.cpu_seconds == pytest.approx(3.0 * EPOCHS)
    assert record.cost.peak_memory == 2**30 + EPOCHS
    (attempt,) = record.attempts
    assert (attempt.outcome, attempt.device, attempt.versions) == ("complete", "cpu", {"tuner": "test"})
    assert attempt.ended_at is not None
    assert attempt.ended_at >= attempt.started_at
    frozen = study.optuna.trials[0]
    assert frozen.state == State.COMPLETE
    assert frozen.value == record.value == pytest.approx(0.45)
    assert frozen.intermediate_values == {epoch.epoch: epoch.value for epoch in record.epochs}
    assert frozen.user_attrs["nms_iou"] == 0.55
    assert frozen.user_attrs["f1"] == 0.7
    assert study.optuna.metric_names == ["map"]
    assert study.optuna.direction == optuna.study.StudyDirection.MAXIMIZE


def test_weak_trials_are_pruned_and_the_default_never(sqlite_url: str, begin: Begin) -> None:
    study = begin(sqlite_url)
    for top, pruned in ((0.2, False), (0.5, False), (0.1, True), (0.6, False)):
        assignment = study.next_trial(WORKER)
        assert assignment is not None
        assert train(study, assignment, top) is pruned
    assert [trial.state for trial in study.trials(epochs=False)] == [
        TrialState.COMPLETE,
        TrialState.COMPLETE,
        TrialState.PRUNED,
        TrialState.COMPLETE,
    ]
    third = study.trials(numbers=[2])[0]
    assert third.reason == "stopped by the pruner"
    assert third.last_epoch == 1
    assert [t.state for t in study.optuna.trials] == [State.COMPLETE, State.COMPLETE, State.PRUNED, State.COMPLETE]
    assert study.optuna.trials[2].value == third.value
    summary = study.summary()
    assert summary.counts[TrialState.COMPLETE] == 3
    assert summary.counts[TrialState.PRUNED] == 1
    assert summary.best == (3, pytest.approx(0.6))
    assert summary.default_value == pytest.approx(0.2)
    assert (summary.epochs, summary.full_epochs) == (3 * EPOCHS + 1, 4 * EPOCHS)


def test_a_row_that_the_database_refuses_is_not_taken_for_a_study_that_was_deleted(
    sqlite_url: str, begin: Begin
) -> None:
    study = begin(sqlite_url)
    first = study.next_trial(WORKER)
    assert first is not None
    with pytest.raises(StorageError, match="NOT NULL constraint failed"):  # SQLite has no NaN
        study.report(first, replace(result(1, 0.1), train_seconds=math.nan))
    assert not study.report(first, result(1, 0.1))


def test_an_interrupted_trial_goes_on_as_the_same_experiment(studies_url: str, begin: Begin) -> None:
    study = begin(studies_url)
    first = study.next_trial(WORKER)
    assert first is not None
    train(study, first, 0.5)
    second = study.next_trial(WORKER)
    assert second is not None
    train(study, second, 0.6, epochs=4)
    study.interrupt(second)
    assert study.trials(numbers=[1])[0].state is TrialState.INTERRUPTED
    with pytest.raises(LeaseLost):
        study.complete(second)
    other = open_study(study.name, studies_url)
    again = other.next_trial(WORKER)
    assert again is not None
    assert (again.number, again.config, again.params, again.seed) == (
        second.number,
        second.config,
        second.params,
        second.seed,
    )
    assert (again.first_epoch, again.attempt_id) == (5, 2)
    train(other, again, 0.6)
    record = other.trials(numbers=[1])[0]
    assert [epoch.attempt for epoch in record.epochs] == [1, 1, 1, 1, 2, 2, 2, 2, 2]
    assert [attempt.outcome for attempt in record.attempts] == ["interrupted", "complete"]
    assert [attempt.seconds for attempt in record.attempts] == [pytest.approx(8.0), pytest.approx(10.0)]
    assert len(other.optuna.trials) == 2
    assert list(other.optuna.trials[1].intermediate_values) == list(range(1, EPOCHS + 1))
    other.close()


def test_a_stalled_worker_is_refused_when_it_wakes_up(studies_url: str, begin: Begin) -> None:
    study = begin(studies_url)
    stalled = study.next_trial(WORKER)
    assert stalled is not None
    study.report(stalled, result(1, 0.1))
    study.renew(stalled)
    forget_worker(study, stalled)
    study.report(stalled, result(2, 0.2))  # not taken yet: it goes on
    forget_worker(study, stalled)
    taken = study.next_trial(WORKER)
    assert taken is not None
    assert (taken.number, taken.attempt_id, taken.first_epoch) == (0, 2, 3)
    with pytest.raises(LeaseLost, match="given to another worker"):
        study.report(stalled, result(3, 0.9))
    for call in (study.renew, study.complete, study.interrupt):
        with pytest.raises(LeaseLost):
            call(stalled)
    with pytest.raises(LeaseLost):
        study.fail(stalled, FailureKind.ERROR, "late")
    train(study, taken, 0.5)
    record = study.trials()[0]
    assert record.value == 0.5
    assert [attempt.outcome for attempt in record.attempts] == ["lost", "complete"]


def test_a_report_may_be_repeated(studies_url: str, begin: Begin) -> None:
    study = begin(studies_url, pruner={"name": "median", "startup_trials": 1, "first_rung": 2})
    for top in (0.3, 0.5):
        assignment = study.next_trial(WORKER)
        assert assignment is not None
        train(study, assignment, top)
    assignment = study.next_trial(WORKER)
    assert assignment is not None
    answers = [[study.report(assignment, result(epoch, 0.01)) for _ in range(3)] for epoch in (1, 2)]
    assert answers == [[False] * 3, [True] * 3]
    study.prune(assignment, "weak")
    study.prune(assignment, "weak")
    record = study.trials(numbers=[2])[0]
    assert record.cost.seconds == pytest.approx(4.0)
    assert len(record.epochs) == 2
    with pytest.raises(LeaseLost):
        study.complete(assignment)


def test_a_trial_goes_on_after_a_report_whose_answer_was_lost(studies_url: str, begin: Begin) -> None:
    study, other = begin(studies_url), begin(studies_url)
    assert study.next_trial(WORKER) is not None
    assignment = study.next_trial(WORKER)
    assert assignment is not None
    for epoch in (1, 2, 3):
        other.report(assignment, result(epoch, 0.1 * epoch))  # stored, and not heard of here
        assert not study.report(assignment, result(epoch, 0.1 * epoch))
    assert not study.report(assignment, result(4, 0.4))
    assert study.optuna.trials[1].intermediate_values == {1: 0.1, 2: 0.2, 3: pytest.approx(0.3), 4: 0.4}


def test_a_worker_that_took_too_long_to_ask_asks_again(sqlite_url: str, begin: Begin) -> None:
    study, other = begin(sqlite_url), begin(sqlite_url)
    lost: list[str] = []

    def lose(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if "SET ask_token=? WHERE" in statement and not lost:
            lost.append(statement)
            other.database.run(
                lambda s: s.execute(update(StudyRow).values(ask_token="another", ask_until=0.0)) and None
            )

    event.listen(study.database.engine, "before_cursor_execute", lose)
    with pytest.raises(AskBusy):
        study.next_trial(WORKER)
    assert lost
    assert study.trials() == []
    assignment = study.next_trial(WORKER)
    assert assignment is not None
    assert assignment.number == 0


def test_a_trial_ends_for_optuna_and_for_us_or_for_neither(
    studies_url: str, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = begin(studies_url)
    assignment = study.next_trial(WORKER)
    assert assignment is not None

    def out_of_reach(*_: object) -> None:
        raise StorageError("the database is away")

    with monkeypatch.context() as away:
        away.setattr(ending, "tell", out_of_reach)
        with pytest.raises(StorageError):
            train(study, assignment, 0.5)
    assert study.optuna.trials[0].state == State.RUNNING
    assert study.trials()[0].state is TrialState.RUNNING
    for _ in range(2):  # the call that failed, repeated, and once more
        study.complete(assignment)
        assert study.trials()[0].state is TrialState.COMPLETE
        assert study.optuna.trials[0].state == State.COMPLETE
        assert study.optuna.trials[0].value == 0.5


def test_an_end_that_optuna_did_not_hear_of_is_told_later(studies_url: str, begin: Begin) -> None:
    study = begin(studies_url)
    assignment = study.next_trial(WORKER)
    assert assignment is not None
    assert study.report(assignment, result(1, 0.1)) is False
    # As trials end by the dozen, when paused ones are let go, and as older versions ended them.
    study.database.run(lambda session: journal.end_trial(session, assignment, TrialState.PRUNED, reason="let go"))
    assert study.optuna.trials[0].state == State.RUNNING
    study.next_trial(WORKER)
    assert (study.optuna.trials[0].state, study.optuna.trials[0].value) == (State.PRUNED, 0.1)


def test_what_the_pruner_said_outlives_the_worker(sqlite_url: str, begin: Begin) -> None:
    study = begin(sqlite_url)
    for top in (0.4, 0.5):
        assignment = study.next_trial(WORKER)
        assert assignment is not None
        train(study, assignment, top)
    weak, whole = study.next_trial(WORKER), study.next_trial(WORKER)
    assert weak is not None
    assert whole is not None
    assert study.report(weak, result(1, 0.001))
    for epoch in range(1, EPOCHS + 1):
        assert not study.report(whole, result(epoch, 0.7 * epoch / EPOCHS))
    forget_worker(study, weak)
    forget_worker(study, whole)
    other = open_study(study.name, sqlite_url)
    following = other.next_trial(WORKER)
    assert following is not None
    assert following.number == 4
    states = [(trial.state, trial.value) for trial in other.trials()[2:4]]
    assert states == [(TrialState.PRUNED, 0.001), (TrialState.COMPLETE, 0.7)]
    assert [t.state for t in other.optuna.trials[2:4]] == [State.PRUNED, State.COMPLETE]
    other.close()


def test_what_was_held_by_a_clock_that_was_put_back_is_free(studies_url: str, begin: Begin) -> None:
    """A machine that starts without its clock, say; the trial of a worker that died waited until that year came."""
    study, year = begin(studies_url), 365 * 86400.0
    first = study.next_trial(WORKER)
    assert first is not None
    ahead = update(TrialRow).values(lease_until=now() + year)
    study.database.run(lambda session: session.execute(ahead) and None)
    asks = update(StudyRow).where(StudyRow.name == study.name).values(ask_token="dead", ask_until=now() + year)
    study.database.run(lambda session: session.execute(asks) and None)
    assert study.summary().counts[TrialState.INTERRUPTED] == 1
    again, further = study.next_trial(WORKER), study.next_trial(WORKER)
    assert (again and (again.number, again.attempt_id), further and further.number) == ((0, 2), 1)


def test_a_trial_that_is_lost_while_its_anchors_are_made_is_left_to_its_new_worker(
    studies_url: str, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, other = begin(studies_url), begin(studies_url)
    make, taken = anchors.resolve_anchors, []

    def slow(config: TrialConfig, train: Split) -> TrialConfig:
        made = make(config, train)
        if not taken:
            taken.append(other)
            expired = update(TrialRow).values(lease_until=1.0)
            study.database.run(lambda session: session.execute(expired) and None)
            again = other.next_trial(WORKER)
            assert again is not None
            taken.append(again)
        return made

    monkeypatch.setattr(anchors, "resolve_anchors", slow)
    assignment = study.next_trial(WORKER)
    assert assignment is not None
    assert (assignment.number, taken[1].number, taken[1].attempt_id) == (1, 0, 2)
    other.renew(taken[1])


def test_what_no_database_takes_as_it_is_may_be_said_with_an_order_or_be_a_path(studies_url: str, begin: Begin) -> None:
    study = begin(studies_url)
    trial = study.next_trial(WORKER)
    assert trial is not None
    study.exported(trial.number, Path("/caf\udce9.yaml"), {})
    assert study.trials()[0].exports[0].path == r"/caf\udce9.yaml"
    assert study.pause("caf\udce9 \0 " + "é" * 50_000)
    assert study.orders().reason.startswith(r"caf\udce9 \x00 éé")
