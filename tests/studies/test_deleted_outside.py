"""Studies that an Optuna client deletes while a worker runs them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import optuna
import pytest
from sqlalchemy import delete, event
from sqlalchemy.orm import Session
from study_cases import WORKER, result, spec_for, train

from tuner.config.errors import FailureKind, StudyError
from tuner.config.study import DataSpec
from tuner.storage import optuna_writing
from tuner.storage.tables import StudyRow
from tuner.studies.opening import create_or_open
from tuner.studies.state.records import LeaseLost, TrialState
from tuner.studies.study import Study
from tuner.studies.trust.repeats import open_repeats

Begin = Callable[..., Study]


@pytest.mark.parametrize("ours", [False, True], ids=["theirs", "ours too"])
def test_its_trials_are_lost_and_it_has_no_more(studies_url: str, begin: Begin, *, ours: bool) -> None:
    """Another command may have removed our rows, too, once it found that Optuna's were gone."""
    study = begin(studies_url)
    assignment = study.next_trial(WORKER)
    assert assignment is not None
    study.report(assignment, result(1, 0.1))
    optuna.delete_study(study_name=study.name, storage=study.database.optuna)
    if ours:
        mine = delete(StudyRow).where(StudyRow.id == study._id)
        study.database.run(lambda session: session.execute(mine) and None)
    calls: list[Callable[[], object]] = [
        lambda: study.report(assignment, result(2, 0.2)),
        lambda: study.renew(assignment),
        lambda: study.complete(assignment),
        lambda: study.interrupt(assignment),
        lambda: study.fail(assignment, FailureKind.ERROR, "late"),
    ]
    for call in calls:
        with pytest.raises(LeaseLost, match="the study was deleted while a worker ran it"):
            call()
    for call in (study.orders, study.summary, lambda: study.next_trial(WORKER)):
        with pytest.raises(StudyError, match=f"study '{study.name}' was deleted"):
            call()


def test_its_trials_are_not_taken_for_others_that_have_their_ids_now(
    sqlite_url: str, data: DataSpec, opened: list[Study]
) -> None:
    other, study = (create_or_open(spec_for(data, sqlite_url, name)) for name in ("other", "mine"))
    opened += [other, study]
    for one in (other, study):
        assert one.next_trial(WORKER) is not None
    mine = study.next_trial(WORKER)
    assert mine is not None
    optuna.delete_study(study_name=study.name, storage=study.database.optuna)
    theirs = [other.next_trial(WORKER) for _ in range(2)]
    assert mine.trial_id in [trial.trial_id for trial in theirs if trial is not None]
    for call in (
        lambda: study.report(mine, result(1, 0.9)),
        lambda: study.complete(mine),
        lambda: study.fail(mine, FailureKind.ERROR, "late"),
    ):
        with pytest.raises(LeaseLost, match="the study was deleted while a worker ran it"):
            call()
    assert [(trial.state, trial.last_epoch) for trial in other.trials()] == [(TrialState.RUNNING, 0)] * 3


def test_it_is_not_taken_for_one_that_has_its_name_and_id_now(sqlite_url: str, begin: Begin) -> None:
    study = begin(sqlite_url)
    optuna.delete_study(study_name=study.name, storage=study.database.optuna)
    again = begin(sqlite_url)
    assert again._id == study._id
    for call in (study.orders, study.summary, lambda: study.next_trial(WORKER)):
        with pytest.raises(StudyError, match=f"study '{study.name}' was deleted"):
            call()
    assert again.trials() == []


def test_a_report_that_waits_for_the_deletion_is_lost_with_it(studies_url: str, begin: Begin) -> None:
    """Optuna takes a minute to delete ten thousand trials."""
    study = begin(studies_url)
    assignment = study.next_trial(WORKER)
    assert assignment is not None
    study.report(assignment, result(1, 0.1))
    with ThreadPoolExecutor(1) as pool:
        with Session(study.database.engine) as session, session.begin():
            optuna_writing.delete_study(session, study.optuna._study_id)
            report = pool.submit(study.report, assignment, result(2, 0.2))
            with pytest.raises(TimeoutError):
                report.result(0.5)
        with pytest.raises(LeaseLost, match="deleted"):
            report.result(30)


def test_it_is_said_where_a_trial_is_sampled_meanwhile(studies_url: str, begin: Begin) -> None:
    study = begin(studies_url)
    assert study.next_trial(WORKER) is not None
    asked: list[str] = []

    def delete_once(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if not asked and "SET ask_token=" in statement:
            asked.append(statement)
        elif len(asked) == 1 and statement.startswith("SELECT"):  # what the trial is sampled from is read
            asked.append(statement)
            optuna.delete_study(study_name=study.name, storage=study.database.optuna)

    event.listen(study.database.engine, "before_cursor_execute", delete_once)
    with pytest.raises(StudyError, match=f"study '{study.name}' was deleted"):
        study.next_trial(WORKER)


def test_its_repeats_end_with_it(sqlite_url: str, begin: Begin) -> None:
    study = begin(sqlite_url)
    assignment = study.next_trial(WORKER)
    assert assignment is not None
    train(study, assignment, 0.5)
    repeats = open_repeats(study)
    repeats.plan({0: assignment.config}, [1])
    run = repeats.next_trial(WORKER)
    assert run is not None
    repeats.report(run, result(1, 0.1))  # though Optuna knows nothing of it
    optuna.delete_study(study_name=study.name, storage=study.database.optuna)
    with pytest.raises(StudyError, match=f"study '{study.name}' was deleted"):
        repeats.next_trial(WORKER)
    repeats.close()
