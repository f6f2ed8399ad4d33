"""Studies that are renamed, copied or deleted in Optuna's dashboard."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import optuna
import optuna_dashboard
import pytest
from optuna.trial import create_trial
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from study_cases import EPOCHS, WORKER, result, spec_for, train

from tuner.cli.list import list_
from tuner.config.errors import StudyError
from tuner.config.study import DataSpec
from tuner.storage.tables import AttemptRow, EpochRow, StudyRow, TrialRow
from tuner.storage.updates import lock_studies
from tuner.studies.deleting import delete_study
from tuner.studies.enqueue import enqueue
from tuner.studies.opening import create_or_open, open_study, stored_spec
from tuner.studies.reading import list_studies, read_study
from tuner.studies.state.presence import gone_studies
from tuner.studies.state.records import LeaseLost, TrialState
from tuner.studies.study import Study
from tuner.studies.trust.repeats import find_repeats, open_repeats

Begin = Callable[..., Study]


def rename(study: Study, name: str, during: Callable[[optuna.Study], object] | None = None) -> None:
    """As the button of the dashboard does it; `during` is called once all trials are copied."""
    storage = study.database.optuna
    if during is not None:
        meant = storage.delete_study

        def delete(study_id: int) -> None:
            during(optuna.load_study(study_name=name, storage=storage))
            meant(study_id)

        storage.delete_study = delete  # type: ignore[method-assign]
    body = json.dumps({"study_name": name}).encode()
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": f"/api/studies/{storage.get_study_id_from_name(study.name)}/rename",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": io.StringIO(),
        "wsgi.url_scheme": "http",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
    }
    said: list[str] = []
    app = optuna_dashboard.wsgi(storage)
    list(app(environ, lambda status, headers, exc_info=None: said.append(status)))  # type: ignore[arg-type, misc]
    assert said[0].startswith("201")


def run_one(study: Study, top: float) -> int:
    assignment = study.next_trial(WORKER)
    assert assignment is not None
    train(study, assignment, top)
    return assignment.number


def counts(study: Study) -> list[int | None]:
    tables = (StudyRow, TrialRow, AttemptRow, EpochRow)
    return [study.database.run(lambda s, t=table: s.scalar(select(func.count()).select_from(t))) for table in tables]


def test_a_renamed_study_goes_on(database_url: str, data: DataSpec) -> None:
    study, other = (create_or_open(spec_for(data, database_url, name)) for name in ("old", "other"))
    run_one(study, 0.5)
    run_one(other, 0.1)
    running = study.next_trial(WORKER)
    assert running is not None
    study.report(running, result(1, 0.2))
    repeats = open_repeats(study)
    repeats.plan({0: running.config}, [1])
    (study.folder / "artifacts").mkdir()
    before, records = counts(study), study.trials()
    rename(study, "new")
    create_or_open(spec_for(data, database_url, "third")).close()  # which must cost nobody anything
    again = open_study("new", database_url)
    assert counts(study) == [before[0] + 1, *before[1:]]  # type: ignore[operator]
    assert again.trials() == records
    assert again.spec.name == "new"
    assert [found.name for found in list_studies(database_url)] == ["new", "other", "third"]
    with pytest.raises(LeaseLost):
        study.report(running, result(2, 0.3))
    with pytest.raises(StudyError, match="study 'old' was renamed 'new' in Optuna's dashboard"):
        study.next_trial(WORKER)
    again.close()
    again = create_or_open(spec_for(data, database_url, "new"))
    assert (again.folder.name, (again.folder / "artifacts").is_dir(), study.folder.exists()) == ("new", True, False)
    assert again.optuna.metric_names == ["map"]
    theirs = find_repeats(again)
    assert theirs is not None
    assert [run.params for run in theirs.runs()] == [{"trial": 0, "seed": 1}]
    assert theirs.folder.is_dir()
    again.database.run(lambda s: s.get_one(TrialRow, again.optuna.trials[1]._trial_id).__setattr__("lease_until", 1.0))
    assignment = again.next_trial(WORKER)
    assert assignment is not None
    assert (assignment.number, assignment.first_epoch) == (1, 2)
    train(again, assignment, 0.6)
    assert run_one(again, 0.4) == 2
    assert [trial.number for trial in again.optuna.trials] == [0, 1, 2]
    assert [trial.value for trial in again.optuna.trials][:2] == [0.5, 0.6]
    delete_study("new", database_url)
    assert [found.name for found in list_studies(database_url)] == ["other", "third"]
    for one in (study, other, again):
        one.close()


@pytest.mark.parametrize("look", ["read", "begin", "stored"])
def test_the_old_name_says_what_it_is_called_now(sqlite_url: str, begin: Begin, look: str) -> None:
    study = begin(sqlite_url)
    run_one(study, 0.5)
    rename(study, "new")
    calls: dict[str, Callable[[], object]] = {
        "read": lambda: read_study(study.name, sqlite_url),
        "begin": lambda: begin(sqlite_url),
        "stored": lambda: stored_spec(study.name, sqlite_url),
    }
    with pytest.raises(StudyError, match=r"was renamed 'new' in Optuna's dashboard") as error:
        calls[look]()
    assert "`name: new`" in error.value.hint
    anew = begin(sqlite_url)  # it was said once
    assert anew.trials() == []
    assert len(read_study("new", sqlite_url).trials()) == 1
    assert open_study("new", sqlite_url).folder != anew.folder


def test_a_study_waits_for_a_name_that_it_can_have(database_url: str, data: DataSpec) -> None:
    study, other = (create_or_open(spec_for(data, database_url, name)) for name in ("old", "other"))
    run_one(study, 0.5)
    for name in ("Run 2", "../up"):
        rename(study, name)
        study.name = name  # for the next
        assert [found.name for found in list_studies(database_url)] == ["other"]
        became = gone_studies(database_url)
        assert list(became) == ["old"]
        assert f"study 'old' was renamed '{name}' in Optuna's dashboard, which cannot be the name" in became["old"]
        for look in (lambda: read_study("old", database_url), lambda: create_or_open(study.spec)):
            with pytest.raises(StudyError, match="which cannot be the name of a study") as error:
                look()
            assert "Rename it there once more" in error.value.hint
    create_or_open(spec_for(data, database_url, "third")).close()
    rename(study, "new")
    assert [(found.name, found.default_value) for found in list_studies(database_url)] == [
        ("new", 0.5),
        ("other", None),
        ("third", None),
    ]
    study.close()
    other.close()


def test_a_study_waits_for_the_name_of_another_that_waits(
    sqlite_url: str, data: DataSpec, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = (create_or_open(spec_for(data, sqlite_url, name)) for name in ("one", "two"))
    run_one(one, 0.1)
    run_one(two, 0.2)
    rename(one, "one (old)")
    rename(two, "one")
    assert list_studies(sqlite_url) == []
    list_(sqlite_url)
    told = capsys.readouterr()
    assert told.err.count("study 'one' was renamed 'one (old)' in Optuna's dashboard, which cannot") == 1
    assert told.out == f"No other studies in {sqlite_url}.\n"
    with pytest.raises(StudyError, match="study 'one' was renamed 'one \\(old\\)' in Optuna's dashboard, which cannot"):
        read_study("two", sqlite_url)
    one.name = "one (old)"
    rename(one, "three")
    assert {found.name: found.default_value for found in list_studies(sqlite_url)} == {"three": 0.1, "one": 0.2}
    one.close()
    two.close()


def test_a_study_that_followed_to_such_a_name_before_is_healed(sqlite_url: str, data: DataSpec) -> None:
    study = create_or_open(spec_for(data, sqlite_url, "old"))
    run_one(study, 0.5)
    rename(study, "Run 2")
    optuna_id = study.database.optuna.get_study_id_from_name("Run 2")

    def follow_as_before(session: Session) -> None:
        row = session.scalars(select(StudyRow)).one()
        row.name, row.optuna_study_id, row.spec = "Run 2", optuna_id, row.spec | {"name": "Run 2"}

    study.database.run(follow_as_before)
    study.name = "Run 2"
    rename(study, "new")
    assert [(found.name, found.default_value) for found in list_studies(sqlite_url)] == [("new", 0.5)]
    study.close()


def test_names_that_are_exchanged(sqlite_url: str, data: DataSpec) -> None:
    one, two = (create_or_open(spec_for(data, sqlite_url, name)) for name in ("one", "two"))
    run_one(one, 0.5)
    for top in (0.1, 0.2):
        run_one(two, top)
    rename(one, "between")
    for old, new in (("two", "one"), ("between", "two")):
        one.name = old
        rename(one, new)
    assert {found.name: sum(found.counts.values()) for found in list_studies(sqlite_url)} == {"two": 1, "one": 2}
    assert [trial.value for trial in read_study("one", sqlite_url).trials()] == [0.1, 0.2]
    one.close()
    two.close()


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_another_machine_keeps_the_folder_of_a_renamed_study(
    database_url: str, data: DataSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = (tmp_path / name for name in ("here", "there"))
    for machine in (here, there):
        machine.mkdir()
    monkeypatch.chdir(here)
    study = create_or_open(spec_for(data, database_url, "old"))
    (study.folder / "trials").mkdir()
    rename(study, "new")
    monkeypatch.chdir(there)
    create_or_open(spec_for(data, database_url, "third")).close()
    assert [found.name for found in list_studies(database_url)] == ["new", "third"]
    create_or_open(spec_for(data, database_url, "old")).close()
    monkeypatch.chdir(here)
    delete_study("old", database_url)
    assert (study.folder / "trials").is_dir()
    anew, again = create_or_open(spec_for(data, database_url, "old")), open_study("new", database_url)
    assert [path.name for path in sorted(again.folder.iterdir())] == ["study.txt", "trials"]
    assert (again.folder.name, list(anew.folder.iterdir())) == ("new", [anew.folder / "study.txt"])
    for one in (study, anew, again):
        one.close()


def test_several_processes_find_a_new_name_at_once(database_url: str, data: DataSpec) -> None:
    study = create_or_open(spec_for(data, database_url, "old"))
    for top in (0.5, 0.4):
        run_one(study, top)
    rename(study, "new")

    def names() -> list[str]:
        return [found.name for found in list_studies(database_url)]

    with ThreadPoolExecutor(2) as pool:
        with Session(study.database.engine) as session, session.begin():
            lock_studies(session, StudyRow.name == "old")
            looks = [pool.submit(names) for _ in range(2)]
            wait(looks, timeout=1)  # until both have seen what there is to do, if they look before they wait
        assert [look.result(60) for look in looks] == [["new"], ["new"]]
    assert gone_studies(database_url) == {}
    assert counts(study)[:2] == [1, 2]
    study.close()


def test_what_happened_while_the_dashboard_copied_is_made_up_for(studies_url: str, begin: Begin) -> None:
    study = begin(studies_url)
    run_one(study, 0.5)
    assignment = study.next_trial(WORKER)
    assert assignment is not None

    def meanwhile(copy: optuna.Study) -> None:
        train(study, assignment, 0.6)
        optuna.load_study(study_name=study.name, storage=study.database.optuna).add_trial(create_trial(value=0.3))
        run_one(study, 0.7)

    new = f"{study.name[:190]}-new"
    rename(study, new, meanwhile)
    again = open_study(new, studies_url)
    assert again.next_trial(WORKER) is not None
    assert [trial.value for trial in again.optuna.trials] == [0.5, 0.6, None, 0.7, None]
    assert [trial.number for trial in again.trials()] == [0, 1, 3, 4]
    assert again.optuna.trials[3].params == again.trials(numbers=[3])[0].params
    again.close()


def test_a_queued_trial_that_was_begun_while_the_dashboard_copied_is_not_begun_again(
    studies_url: str, begin: Begin
) -> None:
    study = begin(studies_url)
    run_one(study, 0.5)
    point = dict(study.optuna.trials[0].params) | {"learning_rate": 0.02}
    enqueue(study, [point, point | {"learning_rate": 0.03}])
    new = f"{study.name[:190]}-new"
    rename(study, new, lambda copy: run_one(study, 0.6))
    again = open_study(new, studies_url)
    assignment = again.next_trial(WORKER)
    assert assignment is not None
    assert (assignment.number, assignment.params["learning_rate"]) == (2, 0.03)
    told = again.optuna.trials
    assert [(trial.state.name, trial.value) for trial in told] == [
        ("COMPLETE", 0.5),
        ("COMPLETE", 0.6),
        ("RUNNING", None),
    ]
    assert told[1].params == point
    again.close()


def test_a_copy_with_other_trials_is_not_taken_for_the_study(sqlite_url: str, begin: Begin) -> None:
    study = begin(sqlite_url)
    run_one(study, 0.5)
    rename(study, "new", lambda copy: (copy.add_trial(create_trial(value=0.3)), run_one(study, 0.4)))
    assert list_studies(sqlite_url) == []
    assert "its 2 trials are kept here" in gone_studies(sqlite_url)[study.name]
    with pytest.raises(StudyError, match="where trials have changed since"):
        begin(sqlite_url)
    assert "its 2 trials are kept here" in gone_studies(sqlite_url)[study.name]
    delete_study(study.name, sqlite_url)
    assert begin(sqlite_url).trials() == []


def test_a_study_deleted_in_the_dashboard_is_kept_until_its_name_is_needed(
    database_url: str, data: DataSpec, caplog: pytest.LogCaptureFixture
) -> None:
    study, other = (create_or_open(spec_for(data, database_url, name)) for name in ("gone", "other"))
    run_one(other, 0.1)
    for top in (0.4, 0.5):
        run_one(study, top)
    open_repeats(study).close()
    optuna.delete_study(study_name="gone", storage=study.database.optuna)
    run_one(other, 0.2)  # SQLite gives it the id of a trial that is deleted
    third = create_or_open(spec_for(data, database_url, "third"))
    run_one(third, 0.3)
    assert [*gone_studies(database_url)] == ["gone"]
    assert study.database.run(lambda s: s.scalar(select(func.count()).select_from(EpochRow))) == 5 * EPOCHS
    assert [found.name for found in list_studies(database_url)] == ["other", "third"]
    with pytest.raises(StudyError, match="there is no study 'gone'") as error:
        read_study("gone", database_url)
    assert error.value.hint.startswith("It was deleted in Optuna's dashboard; `tuner delete gone")
    with caplog.at_level(logging.WARNING):
        anew = create_or_open(spec_for(data, database_url, "gone"))
    assert "'gone' was deleted in Optuna's dashboard" in caplog.text
    assert anew.trials() == []
    assert find_repeats(anew) is None
    assert gone_studies(database_url) == {}
    for one in (study, other, third, anew):
        one.close()


def test_what_is_kept_of_a_deleted_study_can_be_deleted(sqlite_url: str, begin: Begin) -> None:
    study = begin(sqlite_url)
    run_one(study, 0.5)
    optuna.delete_study(study_name=study.name, storage=study.database.optuna)
    theirs = optuna.create_study(study_name="theirs", storage=study.database.optuna)  # with the same id, in SQLite
    delete_study(study.name, sqlite_url)
    assert counts(study) == [0, 0, 0, 0]
    assert not study.folder.exists()
    assert [found.study_name for found in study.database.optuna.get_all_studies()] == [theirs.study_name]


def test_a_copy_of_a_study_that_lives_stays_optunas_alone(sqlite_url: str, begin: Begin) -> None:
    study = begin(sqlite_url)
    run_one(study, 0.5)
    storage = study.database.optuna
    optuna.copy_study(from_study_name=study.name, from_storage=storage, to_storage=storage, to_study_name="copy")
    assert [found.name for found in list_studies(sqlite_url)] == [study.name]
    assert study.next_trial(WORKER) is not None
    assert study.summary().counts[TrialState.COMPLETE] == 1
