"""Creating and opening studies, and several workers on one study."""

from __future__ import annotations

import copy
import json
import multiprocessing
import re
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import optuna
import pytest
from pydantic import ValidationError
from sqlalchemy.orm import Session
from study_cases import EPOCHS, SPACE, WORKER, forget_worker, spec_for, train

from tuner.config.errors import ConfigError, DataError, StudyError
from tuner.config.study import DataSpec, PrunerSpec
from tuner.storage.tables import StudyRow
from tuner.studies import workable
from tuner.studies.deleting import delete_study
from tuner.studies.opening import create_or_open, open_study
from tuner.studies.reading import list_studies, read_study
from tuner.studies.search.plan import make_plan
from tuner.studies.state.records import DEFAULT, Assignment
from tuner.studies.study import Study
from tuner.studies.trials.leases import AskBusy

Begin = Callable[..., Study]


def test_the_same_spec_goes_on_with_the_same_study(sqlite_url: str, begin: Begin) -> None:
    first = begin(sqlite_url)
    assert first.folder.is_dir()
    again = begin(sqlite_url, budget={"trials": 2}, pruner={"name": "none"}, slots=4, device="cpu")
    assert again._id == first._id
    opened = open_study(first.name, sqlite_url)
    assert opened.spec.budget.trials == 2
    assert opened.spec.pruner.name == "none"
    assert opened.spec.storage == sqlite_url
    assert (opened.base, opened.space) == (first.base, first.space)
    assert [opened.next_trial(WORKER) is None for _ in range(3)] == [False, False, True]
    opened.close()


def test_a_changed_plan_reaches_a_worker_that_runs(sqlite_url: str, begin: Begin) -> None:
    plan = make_plan(10.0, 4, 1, PrunerSpec(), EPOCHS).model_dump()
    running = begin(sqlite_url, plan=plan)
    assert running.next_trial(WORKER) is not None
    begin(sqlite_url, plan=plan | {"hours": 0.001})
    assert running.next_trial(WORKER) is None
    begin(sqlite_url, plan=plan)
    assert running.next_trial(WORKER) is not None


def test_another_spec_of_the_same_name_is_refused_with_what_differs(sqlite_url: str, begin: Begin) -> None:
    begin(sqlite_url)
    space = {**SPACE, "augment.mosaic": {"type": "float", "low": 0.0, "high": 0.5, "step": 0.1}}
    with pytest.raises(StudyError, match=r"exists in .* with another spec") as error:
        begin(
            sqlite_url,
            defaults={"epochs": EPOCHS, "image_size": 128},
            space=space,
            objective={"metric": "map50"},
            sampler={"name": "random"},
        )
    lines = [line.strip() for line in error.value.message.splitlines()[1:]]
    assert lines[:3] == [
        "defaults.image_size: 96 -> 128",
        'objective.metric: "map" -> "map50"',
        'sampler.name: "auto" -> "random"',
    ]
    assert lines[3].startswith("space.augment.mosaic: ")
    assert len(lines) == 4
    assert "tuner delete" in error.value.hint


def test_spelling_out_a_default_is_no_difference(sqlite_url: str, begin: Begin) -> None:
    begin(sqlite_url)
    begin(sqlite_url, defaults={"epochs": EPOCHS, "image_size": 96, "batch_size": 8, "augment.mosaic": 0.3})


def test_another_spelling_is_no_difference(sqlite_url: str, begin: Begin) -> None:
    objectives = {"objective": {"metric": "0.7*map + 0.3*f1"}, "objectives": ["map", "latency_ms"]}
    begin(sqlite_url, **objectives, constraints=["latency_ms <= 20"])
    objectives = {"objective": {"metric": ".3*f1+0.7*map"}, "objectives": ["1*map", " latency_ms"]}
    begin(sqlite_url, **objectives, constraints=["latency_ms<=20.0"])


def test_given_anchors_stay_with_the_study(sqlite_url: str, begin: Begin) -> None:
    given = [[[10, 10]], [[20, 30]], [[90, 80]]]
    defaults = {"epochs": EPOCHS, "image_size": 96, "anchors": "custom", "anchor_sizes": given}
    space = {"augment.mosaic": SPACE["augment.mosaic"]}
    first = begin(sqlite_url, defaults=defaults, space=space)
    opened = open_study(first.name, sqlite_url)
    assert opened.base == first.base
    assert opened.base.anchor_sizes == (((10.0, 10.0),), ((20.0, 30.0),), ((90.0, 80.0),))
    begin(sqlite_url, defaults=defaults, space=space)
    with pytest.raises(StudyError, match="anchor_sizes"):
        begin(sqlite_url, defaults=defaults | {"anchor_sizes": [[[10, 10]], [[20, 30]], [[90, 99]]]}, space=space)
    opened.close()


def test_other_data_are_refused(sqlite_url: str, begin: Begin, data: DataSpec, tmp_path: Path) -> None:
    study = begin(sqlite_url)
    (tmp_path / "copy").mkdir()
    for part in ("images", "annotations"):
        (tmp_path / "copy" / part).symlink_to(data.root / part)
    moved = open_study(study.name, sqlite_url, data_root=tmp_path / "copy")
    assert moved.next_trial(WORKER) is not None
    assert moved.spec.data.root == tmp_path / "copy"
    moved.close()
    annotations = tmp_path / "copy" / "annotations"
    annotations.unlink()
    annotations.mkdir()
    for name in ("train", "val", "test"):
        content = json.loads((data.root / "annotations" / f"{name}.json").read_text())
        if name == "train":
            content["annotations"].pop()
        (annotations / f"{name}.json").write_text(json.dumps(content))
    other = open_study(study.name, sqlite_url, data_root=tmp_path / "copy")
    with pytest.raises(DataError, match=r"not those that study .* was begun with:\n  train: \d+ boxes, was \d+"):
        other.next_trial(WORKER)
    other.close()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"objective": {"metric": "maap"}}, ConfigError, "no metric 'maap'"),
        ({"pruner": {"name": "none", "patience": 1}}, ConfigError, "no use for it"),
        ({"sampler": {"name": "grid"}}, ConfigError, "without steps"),
        ({"defaults": {"learning_rate": 1.0}}, ConfigError, "lies outside the search space"),
        ({"space": "defualt"}, ConfigError, "Did you mean 'default'"),
    ],
)
def test_a_spec_that_cannot_be_makes_no_database(
    sqlite_url: str, begin: Begin, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        begin(sqlite_url, **changes)
    assert list_studies(sqlite_url) == []


def test_a_study_that_an_earlier_version_took_stays_readable(sqlite_url: str, begin: Begin) -> None:
    space = {
        "optimizer": {"type": "categorical", "choices": ["adamw", "sgd"]},
        "weight_decay": {"type": "float", "low": 0.0, "high": 0.1},
        "momentum": {"type": "float", "low": 0.9, "high": 0.99, "when": {"optimizer": "sgd"}},
    }
    study = begin(sqlite_url, space=space, constraints=["map <= 0.9"])
    first = study.next_trial(WORKER)
    assert first is not None
    train(study, first, 0.5)

    def as_it_was(session: Session) -> None:
        row = session.get_one(StudyRow, study._id)
        row.spec = row.spec | {"constraints": ["map <= 0.4", "map >= 0.6"]}
        dimensions = copy.deepcopy(row.space["dimensions"])
        dimensions["momentum"]["when"] = {"weight_decay": [0.05]}
        row.space = row.space | {"dimensions": dimensions}

    study.database.run(as_it_was)
    assert [summary.name for summary in list_studies(sqlite_url)] == [study.name]
    with closing(read_study(study.name, sqlite_url)) as reader:
        assert reader.trials()[0].value == 0.5
    with closing(open_study(study.name, sqlite_url)) as again:
        assert again.space.dimensions["momentum"].when == {"weight_decay": (0.05,)}
        assert again.best() is None  # no trial keeps both
    with pytest.raises(ValidationError, match="no value of map keeps both"):
        begin(sqlite_url, constraints=["map <= 0.4", "map >= 0.6"])


def test_results_are_read_where_the_folder_cannot_be_looked_into(
    sqlite_url: str, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = begin(sqlite_url)
    first = study.next_trial(WORKER)
    assert first is not None
    train(study, first, 0.5)

    def another_users(*_: object) -> Path:
        raise PermissionError(13, "Permission denied", "study.txt")

    monkeypatch.setattr(workable, "study_folder", another_users)
    with closing(open_study(study.name, sqlite_url)) as again:
        best = again.best()
    assert best is not None
    assert best.value == 0.5


def test_broken_data_make_no_study(sqlite_url: str, data: DataSpec) -> None:
    broken = data.model_copy(update={"train": Path("annotations/none.json")})
    with pytest.raises(DataError):
        create_or_open(spec_for(broken, sqlite_url, "broken"))
    assert list_studies(sqlite_url) == []


@pytest.mark.parametrize("objective", ["map", "map50"])
def test_a_study_that_another_process_begins_meanwhile_is_gone_on_with(
    studies_url: str, begin: Begin, monkeypatch: pytest.MonkeyPatch, objective: str
) -> None:
    """It stands between looking for the study and making it at Optuna, while the other begins the first trial."""
    real, other = optuna.create_study, []

    def late(*args: Any, **kwargs: Any) -> optuna.Study:
        monkeypatch.setattr(optuna, "create_study", real)
        other.append(begin(studies_url))
        assert other[0].next_trial(WORKER) is not None
        return real(*args, **kwargs)

    monkeypatch.setattr(optuna, "create_study", late)
    if objective == "map":
        assert begin(studies_url).identity == other[0].identity
    else:
        with pytest.raises(StudyError, match=r"exists in .* with another spec"):
            begin(studies_url, objective={"metric": objective})
    assert other[0].optuna.metric_names == ["map"]


def test_names_that_differ_by_capital_letters_alone_are_not_mixed_up(database_url: str, data: DataSpec) -> None:
    small = create_or_open(spec_for(data, database_url, "cells"))
    for read in (open_study, delete_study):
        with pytest.raises(StudyError, match="there is no study 'Cells'"):
            read("Cells", database_url)
    if database_url.startswith("mysql"):
        with pytest.raises(StudyError, match="holds a study 'cells', and tells no capital letters in names apart"):
            create_or_open(spec_for(data, database_url, "Cells", objective={"metric": "map50"}))
    else:
        create_or_open(spec_for(data, database_url, "Cells")).close()
        delete_study("Cells", database_url)
    assert small.optuna.metric_names == ["map"]
    optuna.delete_study(study_name="cells", storage=small.database.optuna)
    with pytest.raises(StudyError, match="there is no study 'Cells'") as error:
        delete_study("Cells", database_url)
    assert "tuner delete" not in error.value.hint
    delete_study("cells", database_url)
    small.close()


def test_a_study_that_does_not_exist(sqlite_url: str, begin: Begin) -> None:
    study = begin(sqlite_url)
    for call in (open_study, delete_study):
        with pytest.raises(StudyError, match="there is no study") as error:
            call(study.name + "s", sqlite_url)
        assert study.name in error.value.hint


def test_sampling_does_not_depend_on_restarts(sqlite_url: str, data: DataSpec) -> None:
    def walk(name: str, restart: bool) -> list[dict[str, Any]]:
        study = create_or_open(spec_for(data, sqlite_url, name, sampler={"name": "tpe", "startup_trials": 3}))
        params = []
        for number in range(7):
            assignment = study.next_trial(WORKER)
            assert assignment is not None
            params.append(assignment.params)
            train(study, assignment, 0.3 + 0.01 * number)
            if restart:
                study.close()
                study = open_study(name, sqlite_url)
        study.close()
        return params

    assert walk("straight", restart=False) == walk("restarted", restart=True)


@pytest.mark.parametrize("low", [1e-5, 1e-3])
def test_a_study_whose_default_config_had_a_rate_of_another_model_goes_on(
    studies_url: str, begin: Begin, low: float
) -> None:
    """A fixed detector once had the default learning rate of `dense-tiny`, whatever its own is."""
    rate = {"type": "float", "low": low, "high": 1e-2, "log": True}
    changes = {"space": {"model": "fasterrcnn-resnet50", "learning_rate": rate}, "budget": {"trials": 3}}
    study = begin(studies_url, **changes)
    study.optuna.enqueue_trial({"learning_rate": 2e-3}, user_attrs={DEFAULT: True})
    study = begin(studies_url, **changes)
    first = study.next_trial(WORKER)
    assert first is not None
    train(study, first, 0.3, epochs=2)
    forget_worker(study, first)
    study = begin(studies_url, **changes)
    for number in range(3):
        assignment = study.next_trial(WORKER)
        assert assignment is not None
        assert assignment.number == number
        train(study, assignment, 0.5)
    assert study.next_trial(WORKER) is None
    default, *others = study.trials(epochs=False)
    assert default.is_default
    assert (default.params, default.config.learning_rate) == ({"learning_rate": 2e-3}, 2e-3)
    assert not any(trial.is_default or trial.params == default.params for trial in others)


def _ask(study: Study) -> Assignment | None:
    while True:
        with suppress(AskBusy):  # as workers do
            return study.next_trial(WORKER)


def _work(name: str, url: str, barrier: Any, taken: Any) -> None:
    study = open_study(name, url)
    study.dataset  # noqa: B018
    barrier.wait()
    while (assignment := _ask(study)) is not None:
        taken.put((assignment.number, assignment.attempt_id, tuple(sorted(assignment.params.items()))))
        train(study, assignment, 0.2 + 0.01 * assignment.number)
    study.close()


def test_workers_share_a_study_without_running_a_trial_twice(studies_url: str, begin: Begin) -> None:
    study = begin(studies_url, budget={"trials": 12}, sampler={"name": "tpe"})  # which needs no torch to be imported
    killed = [study.next_trial(WORKER) for _ in range(3)]
    for assignment in killed:
        assert assignment is not None
        forget_worker(study, assignment)
    context = multiprocessing.get_context("spawn")
    barrier, taken = context.Barrier(3), context.Queue()
    workers = [context.Process(target=_work, args=(study.name, studies_url, barrier, taken)) for _ in range(3)]
    for worker in workers:
        worker.start()
    seen = [taken.get(timeout=120) for _ in range(12)]
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert taken.empty()
    assert sorted((number, attempt) for number, attempt, _ in seen) == [(n, 2 if n < 3 else 1) for n in range(12)]
    assert len({params for _, _, params in seen}) == 12
    assert [trial.number for trial in study.trials()] == list(range(12))
    assert all(trial.state.is_finished() for trial in study.optuna.trials)
    assert len(study.optuna.trials) == 12


def test_the_password_of_the_database_is_not_stored(sqlite_url: str, begin: Begin) -> None:
    study = begin(sqlite_url)
    assert study.spec.storage == sqlite_url
    row = study.database.run(lambda session: session.get_one(StudyRow, study._id))
    assert "storage" not in row.spec
    assert sqlite_url not in repr(study.spec) + str(study.spec)
    assert study.spec.model_dump()["storage"] == sqlite_url
    assert not re.search("sqlite", json.dumps(row.spec))
