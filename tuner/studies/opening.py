"""Creating and opening studies; one from a spec in three lines:

spec = load_study_spec(path)
study = create_or_open(spec)
run_worker(study, slots=plan_slots(spec.device, spec.slots))
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
from sqlalchemy import select
from sqlalchemy.orm import Session

from tuner.config.errors import NoStudies, StudyError
from tuner.config.load import base_config
from tuner.config.study import StudySpec
from tuner.config.trial import TrialConfig
from tuner.space.load import load_space
from tuner.space.space import SearchSpace
from tuner.storage.database import Database, connect
from tuner.storage.tables import StudyRow
from tuner.storage.urls import masked, storage_option
from tuner.studies.anchor_space import without_ruled_out
from tuner.studies.named_things import check_named_things
from tuner.studies.reading import find_study, reach_study
from tuner.studies.search.objective import check_objective, check_search, directions
from tuner.studies.search.pruners import build_pruner
from tuner.studies.search.quiet_optuna import quiet
from tuner.studies.search.samplers import build_sampler
from tuner.studies.state.control import clear_control
from tuner.studies.state.current import refuse_data_of_another
from tuner.studies.state.presence import GONE
from tuner.studies.state.provenance import software_versions
from tuner.studies.state.renamed import drop, mark, set_aside
from tuner.studies.state.specs import differences, digest, stored
from tuner.studies.study import Study

if TYPE_CHECKING:
    from tuner.data.coco import Dataset


@dataclass(frozen=True)
class Checked:
    """What is known of a spec once it was checked.

    Attributes:
        space: The search space, with the anchor recipes that are worth a trial.
        ruled_out: Why each of the others is left out.
        default: The study's default config, with the fixed values of the space.
        dataset: The data set.
    """

    space: SearchSpace
    ruled_out: dict[str, str]
    default: TrialConfig
    dataset: Dataset


def create_or_open(spec: StudySpec, checked: Checked | None = None) -> Study:
    """The study of a spec: the one of that name where it exists, else a new one.

    Budget, pruner, slots, device, storage and data folder may differ from those that the study has; the new
    ones are taken over. A study that has ended by a config error, was paused or was stopped goes on.

    Args:
        spec: The spec.
        checked: What `check_study` found for it; None where it was not asked.

    Raises:
        ConfigError: The spec asks for what cannot be: objective, sampler, pruner, space or default config.
        WeightsError: A file of weights is missing.
        DataError: The data set is broken, or is not the one that the study was begun with.
        StudyError: A study of that name exists with another spec, and says what differs; or it was renamed.
        StorageError: The database cannot be used.
    """
    checked = checked or check_study(spec)
    database = connect(spec.storage)
    try:
        row = _create(database, spec, checked.space)
        study = Study(database, row, spec, checked.space, checked.dataset)
        study.dataset  # noqa: B018 - refuses other data than those that the study was begun with
        database.run(lambda session: _take_over(session, row.id, spec))  # not before nothing can be refused any more
        study.make_folder()
    except BaseException:
        database.close()
        raise
    return study


def check_study(spec: StudySpec) -> Checked:
    """Check all of a spec that can be checked without its database and without training.

    Raises:
        ConfigError: The spec asks for what cannot be: objective, sampler, pruner, space, default config, or a detector
            or anchor recipe that there is not.
        DataError: The data set is broken, or all its objects are too small to be seen at the default image size.
        WeightsError: A file of weights is missing.
    """
    from tuner.data.coco import load_dataset
    from tuner.data.unseen import unseen_notes

    space = load_space(spec.space)
    base = base_config(spec)
    check_objective(spec.objective)
    check_search(spec)
    build_pruner(spec.pruner, base.epochs)
    build_sampler(spec.sampler, space, 0, space.params_of(base))
    default = space.default_config(base)
    check_named_things(spec, space, default)
    dataset = load_dataset(spec.data)
    unseen_notes(dataset.train, default.image_size)
    return Checked(*without_ruled_out(space, base, dataset.train), default, dataset)


def check_known(spec: StudySpec, checked: Checked) -> None:
    """Check that a study of this name, where there is one, is of this spec and of its data; changes nothing.

    Raises:
        DataError: It was begun with other data; says in what they differ.
        StudyError: It has another spec; says what differs.
        StorageError: The database cannot be used.
    """
    try:
        database = connect(spec.storage, create=False)
    except NoStudies:
        return
    try:
        row = find_study(database, spec.name)
        if row is not None:
            _refuse_another(database, row, spec, checked.space)
            refuse_data_of_another(row, spec.data, checked.dataset)
    finally:
        database.close()


def open_study(name: str, storage_url: str | None = None, *, data_root: Path | None = None) -> Study:
    """A study that exists.

    Args:
        name: Its name.
        storage_url: Its database; None for the default.
        data_root: Where its data set is on this machine; None for where it was when the study was begun.

    Raises:
        StudyError: There is no such study, or the name is that of a study's repeats.
        StorageError: The database cannot be used.
    """
    database, row = reach_study(name, storage_url)
    spec = StudySpec.of_stored(row.spec | {"storage": storage_url})
    if data_root is not None:
        spec = spec.model_copy(update={"data": spec.data.model_copy(update={"root": data_root.absolute()})})
    return Study(database, row, spec, SearchSpace.of_stored(row.space))


def stored_spec(name: str, storage_url: str | None = None) -> StudySpec | None:
    """The spec that a study has; None where there is no such study, or no database yet.

    Raises:
        StudyError: It was renamed in Optuna's dashboard.
        StorageError: The database cannot be used.
    """
    try:
        database = connect(storage_url, create=False)
    except NoStudies:
        return None
    try:
        row = find_study(database, name)
        return None if row is None else StudySpec.of_stored(row.spec)
    finally:
        database.close()


def _create(database: Database, spec: StudySpec, space: SearchSpace) -> StudyRow:
    row = find_study(database, spec.name)
    if row is None:
        database.run(lambda session: drop(session, spec.name))
        with database.errors(), quiet():
            study = optuna.create_study(
                study_name=spec.name,
                storage=database.optuna,
                directions=directions(spec),
                load_if_exists=True,
            )
            optuna_id = database.optuna.get_study_id_from_name(spec.name)
            known = database.optuna.get_study_name_from_id(optuna_id)
            if known != spec.name:  # MySQL compares so by default
                raise StudyError(
                    f"{masked(database.url)} holds a study {known!r}, and tells no capital letters in names apart, "
                    f"so that {spec.name!r} cannot be another",
                    hint=f"Write it {known!r}, or choose another name.",
                )
            given = [direction.name.lower() for direction in study.directions]
            foreign = study.get_trials(deepcopy=False) or given != directions(spec)
            # Another process may have begun the study and its first trial meanwhile.
            if foreign and find_study(database, spec.name) is None:
                raise StudyError(
                    f"{masked(database.url)} holds an Optuna study {spec.name!r} that tuner did not make",
                    hint="Choose another name for the study.",
                )
            if not foreign:
                study.set_metric_names(list(spec.objectives) or [spec.objective.metric])

        def add(session: Session) -> None:
            if session.scalar(select(StudyRow.id).where(StudyRow.name == spec.name)) is None:
                row = StudyRow(
                    name=spec.name,
                    optuna_study_id=optuna_id,
                    spec=stored(spec),
                    space=space.model_dump(mode="json"),
                    digest=digest(spec, space),
                    versions=software_versions(),
                )
                for gone in session.scalars(select(StudyRow).where(GONE, StudyRow.optuna_study_id == optuna_id)).all():
                    set_aside(session, gone)
                session.add(row)

        database.run(add)  # again where another worker made it meanwhile
        found = find_study(database, spec.name)
        if found is None:
            raise StudyError(f"study {spec.name!r} could not be made in {masked(database.url)}")
        row = found
    _refuse_another(database, row, spec, space)
    database.run(mark)
    return row


def _refuse_another(database: Database, row: StudyRow, spec: StudySpec, space: SearchSpace) -> None:
    changes = differences(StudySpec.of_stored(row.spec), SearchSpace.of_stored(row.space), spec, space)
    if changes:
        raise StudyError(
            f"a study {spec.name!r} exists in {masked(database.url)} with another spec:\n  " + "\n  ".join(changes),
            hint="Choose another name, or delete the old study with "
            f"`tuner delete {spec.name}{storage_option(database.url)}`.",
        )


def _take_over(session: Session, study_id: int, spec: StudySpec) -> None:
    session.get_one(StudyRow, study_id).spec = stored(spec)
    clear_control(session, study_id)
