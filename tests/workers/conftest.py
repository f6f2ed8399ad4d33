"""Fixtures of the tests with workers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tuner.config.study import BudgetSpec, DataSpec, PrunerSpec, StudySpec
from tuner.data.scenes import generate
from tuner.studies.opening import create_or_open
from tuner.studies.study import Study

pytest.register_assert_rewrite("hosts")  # so that a failure there shows what was found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with the trainers beside this file for trial processes to import."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.chdir(tmp_path)  # where studies on a server keep their files
    return tmp_path


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSpec:
    return generate(tmp_path_factory.mktemp("scenes"), train=4, val=2, test=1, size=(64, 48))


@pytest.fixture
def make_study(tmp_path: Path, data: DataSpec, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Study]]:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    studies = []

    def make(trials: int = 1, epochs: int = 3, **plan: Any) -> Study:
        (tmp_path / "plan.json").write_text(json.dumps({"*": plan}))
        study = create_or_open(
            StudySpec(
                name="cells", data=data, defaults={"epochs": epochs, "image_size": 64},
                space={"learning_rate": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True}},
                pruner=PrunerSpec(name="none"), budget=BudgetSpec(trials=trials),
                storage=f"sqlite:///{tmp_path}/tuner.db",
            )
        )  # fmt: skip
        studies.append(study)
        return study

    yield make
    for study in studies:
        study.close()
