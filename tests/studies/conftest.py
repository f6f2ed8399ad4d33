from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from study_cases import spec_for

from tuner.config.study import DataSpec
from tuner.data.scenes import generate
from tuner.storage.urls import resolve, sqlite_file
from tuner.studies.opening import create_or_open
from tuner.studies.study import Study


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSpec:
    return generate(tmp_path_factory.mktemp("data"), train=6, val=3, test=2, size=(96, 64))


@pytest.fixture
def study_name(request: pytest.FixtureRequest) -> str:
    name = "".join(c if c.isalnum() else "-" for c in request.node.name)
    return name[:200]


@pytest.fixture
def opened() -> Iterator[list[Study]]:
    studies: list[Study] = []
    yield studies
    for study in studies:
        study.close()


@pytest.fixture
def begin(data: DataSpec, study_name: str, opened: list[Study], empty_database: Path) -> Callable[..., Study]:
    """Create the test's study, or open it again as another process would."""

    def create(url: str, **changes: Any) -> Study:
        file = sqlite_file(resolve(url))
        if file is not None and not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(empty_database, file)
        study = create_or_open(spec_for(data, url, study_name, **changes))
        opened.append(study)
        return study

    return create
