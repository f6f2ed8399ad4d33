"""Listing and deleting studies, here or in Optuna's dashboard, and what others keep in the same database."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import optuna
import pytest
from optuna.storages._rdb import models
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session
from study_cases import EPOCHS, WORKER, forget_worker, spec_for, train

from tuner.config.errors import StudyError
from tuner.config.study import DataSpec
from tuner.storage.tables import AttemptRow, Base, EpochRow, ExportRow, StudyRow, TrialRow
from tuner.studies.deleting import delete_study, to_delete
from tuner.studies.opening import create_or_open, open_study, stored_spec
from tuner.studies.reading import list_studies, read_study
from tuner.studies.state.records import TrialState
from tuner.studies.study import Study
from tuner.studies.trials.leases import asking, claim

Begin = Callable[..., Study]


def test_list_and_delete(database_url: str, data: DataSpec) -> None:
    studies = [create_or_open(spec_for(data, database_url, name)) for name in ("one", "two")]
    for study in studies:
        assignment = study.next_trial(WORKER)
        assert assignment is not None
        train(study, assignment, 0.4)
        study.exported(0, Path("best.yaml"), {"config": {}})
    running = studies[0].next_trial(WORKER)
    assert running is not None
    found = {summary.name: summary for summary in list_studies(database_url)}
    assert list(found) == ["one", "two"]
    assert found["one"].counts[TrialState.RUNNING] == 1
    assert found["two"].default_value == 0.4
    assert found["two"].cost.seconds == pytest.approx(2.0 * EPOCHS)
    with pytest.raises(StudyError, match="worker holds trial 1"):
        delete_study("one", database_url)
    forget_worker(studies[0], running)
    with asking(studies[0].database, studies[0]._id), pytest.raises(StudyError, match="a worker asks for its next"):
        delete_study("one", database_url)
    (studies[0].folder / "artifacts").mkdir(parents=True, exist_ok=True)
    (studies[0].folder / "artifacts" / "picture.png").write_bytes(b"")
    delete_study("one", database_url)
    assert [summary.name for summary in list_studies(database_url)] == ["two"]
    assert not studies[0].folder.exists()
    assert studies[1].folder.exists()
    with pytest.raises(StudyError, match="deleted"):
        studies[0].next_trial(WORKER)
    for table in (StudyRow, TrialRow, AttemptRow, ExportRow, models.StudyModel, models.TrialModel):
        count = select(func.count()).select_from(table)
        assert studies[1].database.run(lambda session, count=count: session.scalar(count)) == 1
    assert studies[1].database.run(lambda s: s.scalar(select(func.count()).select_from(EpochRow))) == EPOCHS
    assert [study.study_name for study in studies[1].database.optuna.get_all_studies()] == ["two"]
    delete_study("two", database_url)
    for table in (*Base.metadata.sorted_tables, *models.BaseModel.metadata.sorted_tables):
        if table.name != models.VersionInfoModel.__tablename__:
            rows = select(func.count()).select_from(table)
            assert studies[1].database.run(lambda session, rows=rows: session.scalar(rows)) == 0, table.name
    for study in studies:
        study.close()


def test_a_trial_that_is_taken_up_meanwhile_keeps_its_study(sqlite_url: str, begin: Begin) -> None:
    study = begin(sqlite_url)
    assignment = study.next_trial(WORKER)
    assert assignment is not None
    study.interrupt(assignment)
    with ThreadPoolExecutor(1) as pool:
        with Session(study.database.engine) as session, session.begin():
            claim(session, assignment.trial_id, assignment.attempt_id, WORKER)
            deletion = pool.submit(delete_study, study.name, sqlite_url)
            wait([deletion], timeout=1)
        with pytest.raises(StudyError, match="worker holds trial 0"):
            deletion.result(60)
    assert len(study.trials()) == 1


def test_studies_of_one_name_in_two_databases_keep_their_files_apart(begin: Begin, tmp_path: Path) -> None:
    urls = [f"sqlite:///{tmp_path}/{name}.db" for name in ("one", "two")]
    first, second = (begin(url) for url in urls)
    assert first.name == second.name
    for study in (first, second):
        assert open_study(study.name, study.spec.storage).folder == study.folder
        (study.folder / "trials").mkdir()
    assert first.folder == tmp_path / first.name
    assert second.folder.parent == tmp_path
    delete_study(second.name, urls[1])
    assert not second.folder.exists()
    assert (first.folder / "trials").is_dir()
    delete_study(first.name, urls[0])
    assert not first.folder.exists()
    # The name is free again, in both.
    assert begin(urls[1]).folder == first.folder


def test_a_study_takes_over_the_folder_of_one_that_its_database_has_lost(sqlite_url: str, begin: Begin) -> None:
    study = begin(sqlite_url)
    optuna.delete_study(study_name=study.name, storage=study.database.optuna)
    with pytest.raises(StudyError, match="there is no study") as error:
        read_study(study.name, sqlite_url)
    assert error.value.hint.startswith("It was deleted in Optuna's dashboard")
    again = begin(sqlite_url)
    assert again.identity != study.identity
    assert again.folder == study.folder


def test_a_study_deleted_in_the_dashboard_can_be_begun_anew(sqlite_url: str, begin: Begin) -> None:
    study = begin(sqlite_url)
    assignment = study.next_trial(WORKER)
    assert assignment is not None
    train(study, assignment, 0.4)
    optuna.delete_study(study_name=study.name, storage=study.database.optuna)
    with pytest.raises(StudyError, match="there is no study") as error:
        read_study(study.name, sqlite_url)
    assert error.value.hint.startswith("It was deleted in Optuna's dashboard")
    again = begin(sqlite_url)
    first = again.next_trial(WORKER)
    assert first is not None
    assert (first.number, first.first_epoch) == (0, 1)


def test_looking_for_a_study_deletes_none(sqlite_url: str, begin: Begin) -> None:
    study = begin(sqlite_url)
    optuna.delete_study(study_name=study.name, storage=study.database.optuna)
    assert stored_spec(study.name, sqlite_url) is None
    with pytest.raises(StudyError, match="there is no study") as error:
        open_study(study.name, sqlite_url)
    assert error.value.hint.startswith("It was deleted in Optuna's dashboard")
    assert study.database.run(lambda session: session.get(StudyRow, study._id)) is not None


def test_an_optuna_study_of_others_is_left_alone(sqlite_url: str, begin: Begin, study_name: str) -> None:
    study = begin(sqlite_url)
    theirs = optuna.create_study(study_name="theirs", storage=study.database.optuna)
    theirs.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    with pytest.raises(StudyError, match="that tuner did not make"):
        create_or_open(study.spec.model_copy(update={"name": "theirs"}))


@pytest.mark.parametrize("wanted", [["minimize"], ["maximize", "minimize"]])
def test_an_empty_optuna_study_is_taken_over_with_the_same_directions_alone(
    sqlite_url: str, begin: Begin, wanted: list[str]
) -> None:
    """Such as the button of Optuna's dashboard makes."""
    study = begin(sqlite_url)
    optuna.create_study(study_name="same", storage=study.database.optuna, direction="maximize")
    create_or_open(study.spec.model_copy(update={"name": "same"})).close()
    theirs = optuna.create_study(study_name="theirs", storage=study.database.optuna, directions=wanted)
    with pytest.raises(StudyError, match="that tuner did not make"):
        create_or_open(study.spec.model_copy(update={"name": "theirs"}))
    assert theirs.metric_names is None


def test_a_deletion_that_was_cut_off_is_finished_by_the_next(begin: Begin, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/one.db"
    study = begin(url)
    other = create_or_open(study.spec.model_copy(update={"name": "other"}))
    trials = study.folder / "trials" / "0"
    trials.mkdir(parents=True)
    for number in range(3000):
        (trials / str(number)).touch()
    study.database.run(lambda session: session.execute(delete(StudyRow).where(StudyRow.name == study.name)) and None)
    code = "import sys, pathlib; from tuner.storage.folders import remove_study_folder\n"
    code += "remove_study_folder(pathlib.Path(sys.argv[1]))"
    with subprocess.Popen([sys.executable, "-c", code, str(study.folder)]) as process:
        while process.poll() is None and (trials / "0").exists() and (trials / "2999").exists():
            pass
        process.kill()
    if study.folder.exists():  # the machine was not too busy to kill it in time
        assert to_delete(study.name, url) == (0, study.folder)
        delete_study(study.name, url)
    assert not study.folder.exists()
    assert other.folder.is_dir()
    with pytest.raises(StudyError, match="there is no study"):
        delete_study(study.name, url)
    other.close()
