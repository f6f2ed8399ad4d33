"""What becomes of paused trials in a study."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from sqlalchemy import update
from study_cases import EPOCHS, WORKER, forget_worker, result

from tuner.storage.tables import AttemptRow
from tuner.studies.opening import open_study
from tuner.studies.search.promotion import Entrant, goes_on
from tuner.studies.search.sampler_view import as_pruned
from tuner.studies.state.provenance import WorkerInfo
from tuner.studies.state.records import Assignment, LeaseLost, TrialState
from tuner.studies.study import Study
from tuner.studies.trials.leases import LEASE_SECONDS
from tuner.studies.trials.pausing import _go_on
from tuner.trainers.contract import CHECKPOINT

Begin = Callable[..., Study]
State = optuna.trial.TrialState
HERE, THERE = (replace(WORKER, host=host) for host in ("here", "there"))


def test_a_closing_study_waits_for_a_trial_with_a_rung_to_come(sqlite_url: str, begin: Begin) -> None:
    study = begin(sqlite_url, pruner={"name": "promote", "first_rung": 1}, budget={"trials": 4})
    first, second, third, fourth = (take(study, number) for number in range(4))
    for assignment, value in ((first, 0.3), (second, 0.2), (third, 0.1)):
        assert reach(study, assignment, value) is TrialState.PAUSED
    promoted = take(study, 0)  # the best of three
    assert study.next_trial(WORKER) is None  # the fourth may still be better
    assert reach(study, fourth, 0.05) is TrialState.PAUSED
    assert reach(study, promoted, 0.3) is TrialState.PAUSED
    last = take(study, 0)
    assert study.report(last, result(4, 0.3)) is False
    # The default config is on its way to the end, so that another slot can complete what it is compared to.
    assert reach(study, take(study, 1), 0.2) is TrialState.PAUSED
    other = take(study, 1)
    assert study.next_trial(WORKER) is None
    assert reach(study, other, 0.2) is TrialState.COMPLETE
    assert reach(study, last, 0.3) is TrialState.COMPLETE
    assert study.next_trial(WORKER) is None
    assert [trial.state for trial in study.trials()] == [TrialState.COMPLETE] * 2 + [TrialState.PRUNED] * 2


def test_a_trial_whose_objective_is_not_known_yet_is_not_judged(begin: Begin, tmp_path: Path) -> None:
    assert goes_on([Entrant(0, {1: 9.0}, "paused"), Entrant(1, {}, "active")], 1, 1, 3)
    study = begin(f"sqlite:///{tmp_path}/t.db", pruner={"name": "promote", "first_rung": 1}, objective={"metric": "f1"})
    for number in range(2):
        assert reach(study, take(study, number), 0.5) is TrialState.COMPLETE


def reach(study: Study, assignment: Assignment, value: float, until: int = EPOCHS) -> TrialState:
    """Train at one value until the study says stop, or until an epoch; the state of the trial then."""
    for epoch in range(assignment.first_epoch, until + 1):
        if study.report(assignment, result(epoch, value)):
            return study.stop_early(assignment)
    if until == EPOCHS:
        study.complete(assignment)
        return TrialState.COMPLETE
    return TrialState.RUNNING


def take(study: Study, number: int, worker: WorkerInfo = WORKER) -> Assignment:
    assignment = study.next_trial(worker)
    assert assignment is not None
    assert assignment.number == number
    return assignment


def test_a_paused_trial_goes_on_with_any_worker_and_ends_once(
    studies_url: str, begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where the files of a study on a server go
    study = begin(studies_url, pruner={"name": "promote", "first_rung": 1}, budget={"trials": 6})
    folder = study.folder / "trials"
    for number, value in enumerate((0.3, 0.5, 0.4)):
        assignment = take(study, number)
        (folder / str(number)).mkdir(parents=True)
        (folder / str(number) / CHECKPOINT).touch()
        assert reach(study, assignment, value) is TrialState.PAUSED
        with pytest.raises(LeaseLost):
            study.renew(assignment)
    frozen = study.optuna.trials
    assert [trial.state for trial in frozen] == [State.RUNNING] * 3
    assert study.summary().counts[TrialState.PAUSED] == 3
    # To the sampler, paused trials look pruned, with what they have reported.
    (shown,) = as_pruned(frozen[1:2], {frozen[1]._trial_id})
    assert (shown.state, shown.intermediate_values) == (State.PRUNED, {1: 0.5})

    for number in (3, 4):  # one of three may go on, but the next one may be better
        assignment = take(study, number)
        (folder / str(number)).mkdir(parents=True)
        (folder / str(number) / CHECKPOINT).touch()
        assert reach(study, assignment, 0.1) is TrialState.PAUSED

    other = open_study(study.name, studies_url)
    again = take(other, 1)  # two of six may go on, if the sixth is better
    assert (again.first_epoch, again.attempt_id) == (2, 2)
    # Of six, two may at most, and the default config: the others have no hope any more, and their checkpoints are gone.
    assert [trial.state for trial in other.trials()][2:] == [TrialState.PAUSED] + [TrialState.PRUNED] * 2
    assert [trial.state for trial in other.optuna.trials] == [State.RUNNING] * 3 + [State.PRUNED] * 2
    assert sorted(path.parent.name for path in folder.glob(f"*/{CHECKPOINT}")) == ["0", "1", "2"]
    assert other.report(again, result(1, 0.5)) is False  # reported once more, since its checkpoint is from there
    assert reach(other, again, 0.6) is TrialState.PAUSED  # alone at the second rung
    assert reach(other, take(other, 5), 0.1) is TrialState.PAUSED
    second = take(other, 2)  # now two of six may
    assert reach(other, second, 0.5) is TrialState.PAUSED
    last = take(other, 1)  # nothing else is left to do, and the study has no complete trial
    assert reach(other, last, 0.6, until=5) is TrialState.RUNNING
    forget_worker(other, last)
    last = take(study, 1)
    assert last.first_epoch == 6
    assert reach(study, last, 0.6) is TrialState.COMPLETE
    assert reach(study, take(study, 0), 0.3) is TrialState.COMPLETE  # the default config, for the gain over it
    assert study.next_trial(WORKER) is None
    record = study.trials(numbers=[1])[0]
    assert [epoch.epoch for epoch in record.epochs] == list(range(1, EPOCHS + 1))
    assert [attempt.outcome for attempt in record.attempts] == ["paused", "paused", "lost", "complete"]
    assert [trial.state for trial in study.optuna.trials] == [State.COMPLETE] * 2 + [State.PRUNED] * 4
    assert study.summary().counts[TrialState.PAUSED] == 0
    other.close()


def test_of_two_workers_that_would_go_on_with_a_trial_one_does(studies_url: str, begin: Begin) -> None:
    study = begin(studies_url, pruner={"name": "promote", "first_rung": 1})
    assert reach(study, take(study, 0), 0.5) is TrialState.PAUSED
    first, second = (study.database.run(lambda session: _go_on(session, study._id, 0, WORKER)) for _ in range(2))
    assert first is not None
    assert second is None


@pytest.fixture
def paused_there(studies_url: str, begin: Begin) -> Study:
    """A study of seven trials of which another host has paused five; the second would go on."""
    study = begin(studies_url, pruner={"name": "promote", "first_rung": 1}, budget={"trials": 7})
    for number, value in enumerate((0.1, 0.5, 0.4, 0.3, 0.2)):
        assert reach(study, take(study, number, THERE), value) is TrialState.PAUSED
    return study


def test_a_trial_is_left_to_the_host_that_has_its_checkpoint(paused_there: Study) -> None:
    assert reach(paused_there, take(paused_there, 5, HERE), 0.0) is TrialState.PAUSED
    assert reach(paused_there, take(paused_there, 1, THERE), 0.6) is TrialState.PAUSED
    take(paused_there, 6, HERE)
    take(paused_there, 2, HERE)  # nothing is left to begin


def test_a_trial_whose_host_was_not_heard_of_goes_on_with_any(paused_there: Study) -> None:
    long_ago = update(AttemptRow).values(ended_at=AttemptRow.ended_at - LEASE_SECONDS)
    paused_there.database.run(lambda session: session.execute(long_ago) and None)
    take(paused_there, 1, HERE)


def test_the_end_of_a_study_waits_for_its_last_trial(sqlite_url: str, begin: Begin) -> None:
    study = begin(sqlite_url, pruner={"name": "promote", "first_rung": 1}, budget={"trials": 3})
    first, second, third = (take(study, number) for number in range(3))
    assert reach(study, first, 0.3) is TrialState.PAUSED
    assert reach(study, second, 0.2) is TrialState.PAUSED
    assert study.next_trial(WORKER) is None  # the third may still change who goes on
    assert reach(study, third, 0.4) is TrialState.PAUSED
    assert reach(study, take(study, 2), 0.4) is TrialState.PAUSED  # the best of three, as there are no more
    assert study.trials(epochs=False)[2].last_epoch == 3
    assert reach(study, take(study, 2), 0.5) is TrialState.COMPLETE  # nothing else is left to do
    assert reach(study, take(study, 0), 0.1) is TrialState.COMPLETE  # the default config, for the gain over it
    assert study.next_trial(WORKER) is None
    states = [trial.state for trial in study.trials()]
    assert states == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.COMPLETE]
    assert all(trial.state.is_finished() for trial in study.optuna.trials)


def test_a_study_that_no_longer_promotes_ends_its_paused_trials_but_the_default_config(
    studies_url: str, begin: Begin
) -> None:
    study = begin(studies_url, pruner={"name": "promote", "first_rung": 1}, budget={"trials": 8})
    for number, value in enumerate((0.3, 0.2)):
        reach(study, take(study, number), value)
    study = begin(studies_url, pruner={"name": "none"}, budget={"trials": 8})
    assert reach(study, take(study, 0), 0.3) is TrialState.COMPLETE  # every gain is stated over it
    take(study, 2)
    assert [trial.state for trial in study.trials()] == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING]


def test_a_trial_that_paused_before_what_is_the_first_rung_now_goes_on_to_it(sqlite_url: str, begin: Begin) -> None:
    pruner, budget = {"name": "promote", "reduction_factor": 4}, {"trials": 4}
    study = begin(sqlite_url, pruner=pruner | {"first_rung": 2}, budget=budget | {"trials": 40})
    for number in range(4):
        assert reach(study, take(study, number), 0.5 - number / 10) is TrialState.PAUSED
    study = begin(sqlite_url, pruner=pruner | {"first_rung": 3}, budget=budget)
    for number in range(4):
        assignment = take(study, number)
        assert assignment.first_epoch == 3
        state = reach(study, assignment, 0.5 - number / 10)
        assert state is TrialState.PAUSED
    assert reach(study, take(study, 0), 0.5) is TrialState.COMPLETE  # one of four
    assert reach(study, take(study, 1), 0.5) is TrialState.COMPLETE
    assert study.next_trial(WORKER) is None
    assert [trial.state for trial in study.trials()] == [TrialState.COMPLETE] * 2 + [TrialState.PRUNED] * 2


def test_a_spent_budget_of_epochs_promotes_nothing_but_what_a_study_must_have(sqlite_url: str, begin: Begin) -> None:
    study = begin(sqlite_url, pruner={"name": "promote", "first_rung": 1}, budget={"trials": None, "epochs": 7})
    for number, value in enumerate((0.3, 0.2, 0.5, 0.4, 0.1)):
        reach(study, take(study, number), value)
    assert reach(study, take(study, 2), 0.5) is TrialState.PAUSED  # the best of five reached the second rung
    assert study.summary().epochs == 7
    assert reach(study, take(study, 2), 0.6) is TrialState.COMPLETE
    assert reach(study, take(study, 0), 0.3) is TrialState.COMPLETE
    assert study.next_trial(WORKER) is None
    states = [trial.state for trial in study.trials()]
    assert states == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.COMPLETE] + [TrialState.PRUNED] * 2


def test_a_raised_budget_promotes_as_many_of_the_new_trials_as_any_other(sqlite_url: str, begin: Begin) -> None:
    def run(trials: int) -> list[int]:
        """Train all, each worse than those before; the numbers of the complete ones."""
        study = begin(sqlite_url, pruner={"name": "promote", "first_rung": 3}, budget={"trials": trials})
        while (assignment := study.next_trial(WORKER)) is not None:
            reach(study, assignment, 0.9 - assignment.number / 100)
        return [trial.number for trial in study.trials(states=[TrialState.COMPLETE])]

    assert run(6) == [0, 1]
    # Those that have ended were better than the new ones, but cannot go on any more.
    assert run(9) == [0, 1, 6]
    assert run(12) == [0, 1, 6, 9]


def test_a_new_trial_need_not_beat_those_that_have_ended(sqlite_url: str, begin: Begin) -> None:
    study = begin(sqlite_url, pruner={"name": "promote", "first_rung": 3}, budget={"trials": 5})
    for number in range(4):
        assignment = take(study, number)
        for epoch in range(1, 4):
            study.report(assignment, result(epoch, 0.9 - number / 100))
        study.prune(assignment, "by hand")
    assert reach(study, take(study, 4), 0.1) is TrialState.COMPLETE  # one of five
