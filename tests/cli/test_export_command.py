"""`tuner export` on a study with finished trials."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from finished_study import EPOCHS, finished_study

from tuner.cli.main import main
from tuner.evaluation.metrics import Metrics
from tuner.export.production import ProductionConfig
from tuner.export.yaml_files import load_production
from tuner.studies.state.provenance import WorkerInfo
from tuner.studies.study import Study
from tuner.trainers.contract import EpochResult


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    study = finished_study(tmp_path_factory.mktemp("export"))
    assert study.next_trial(WorkerInfo()) is not None  # number 2 runs
    of_another_trainer = study.next_trial(WorkerInfo())
    assert of_another_trainer is not None
    study.report(of_another_trainer, EpochResult(1, Metrics(map=0.1), {}, 0.01, 1.0, 0.1, 1.0, 0))
    study.complete(of_another_trainer)
    yield study
    study.close()


@pytest.fixture
def export(study: Study, monkeypatch: pytest.MonkeyPatch):
    def run(*arguments: object) -> int:
        monkeypatch.setattr(
            sys, "argv", ["tuner", "export", "scenes", "--storage", str(study.spec.storage), *map(str, arguments)]
        )
        try:
            main()
        except SystemExit as ended:
            return int(ended.code or 0)
        return 0

    return run


def test_writes_the_best_config_with_its_origin(
    study: Study, export, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "best.yaml"
    assert export("-o", path) == 0
    production = load_production(path)
    best, default = study.best(), study.default_trial()
    assert best is not None
    assert default is not None
    assert production.config == best.config
    assert production.config.epochs == EPOCHS
    assert production.config.anchor_sizes is not None
    assert production.operating_point == best.operating_point
    assert production.metrics == best.metrics
    assert production.default_metrics == default.metrics
    source = production.provenance
    assert (source.study, source.trial, source.value, source.default_value) == (
        "scenes",
        best.number,
        best.value,
        default.value,
    )
    assert source.software["torch"]
    assert source.fingerprint is not None
    assert source.fingerprint.train.images == 6
    said = capsys.readouterr().out
    assert "unconfirmed: one run" in said
    assert f"tuner train {path}" in said
    assert export("-o", path) == 1
    assert export("-o", path, "--force") == 0


def test_writes_the_trial_that_is_named(study: Study, export, tmp_path: Path) -> None:
    assert export("--trial", 0, "-o", tmp_path / "default.yaml") == 0
    assert load_production(tmp_path / "default.yaml").config == study.trials(numbers=[0])[0].config


@pytest.mark.parametrize(("trial", "words"), [(2, "trial 2 of study 'scenes' is running"), (99, "has no trial 99")])
def test_refuses_a_trial_that_is_not_complete(
    export, tmp_path: Path, capsys: pytest.CaptureFixture[str], trial: int, words: str
) -> None:
    assert export("--trial", trial, "-o", tmp_path / "none.yaml") == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "none.yaml").exists()


def test_a_trial_of_a_trainer_that_knows_no_thresholds_is_for_that_trainer(
    export, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "own.yaml"
    assert export("--trial", 3, "-o", path) == 0
    assert (
        f"Next: train with it as its own trainer does: tuner.load_production({str(path)!r})" in capsys.readouterr().out
    )
    assert load_production(path).operating_point is None


def test_the_database_keeps_exports_and_attempts_and_show_reads_them(
    study: Study, export, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "kept.yaml"
    assert export("--trial", 1, "-o", path) == 0
    shown = []
    for arguments in ([], ["--json"]):
        command = ["tuner", "show", "scenes", "1", "--storage", str(study.spec.storage), *arguments]
        monkeypatch.setattr(sys, "argv", command)
        capsys.readouterr()
        with pytest.raises(SystemExit):
            main()
        shown.append(capsys.readouterr().out)
    told = json.loads(shown[1])
    kept = told["exports"][-1]
    assert (kept["host"], kept["path"]) == (socket.gethostname(), str(path))
    assert ProductionConfig.model_validate(kept["content"]) == load_production(path)
    (attempt,) = told["attempts"]
    assert (attempt["host"], attempt["pid"], attempt["device"]) == (socket.gethostname(), os.getpid(), "cpu")
    assert {"python", "torch", "optuna", "tuner"} <= attempt["versions"].keys()
    assert attempt["commit"] == commit()
    assert 0 < attempt["started_at"] <= attempt["ended_at"] <= kept["exported_at"]
    assert (attempt["outcome"], attempt["peak_memory"]) == ("complete", 2**28)
    assert attempt["seconds"] == pytest.approx(1.1 * EPOCHS)
    assert attempt["cpu_seconds"] == pytest.approx(1.1 * EPOCHS)
    for words in (
        f"to {path} on {socket.gethostname()}",
        f"process {os.getpid()}, cpu",
        "256 MiB",
        "torch ",
        " until ",
    ):
        assert words in shown[0]


def test_a_study_that_may_only_be_read_can_be_exported(
    study: Study, export, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refuse = "create trigger refuse before insert on tuner_exports begin select raise(abort, 'read only'); end"
    with study.database.engine.begin() as connection:
        connection.exec_driver_sql(refuse)
    assert export("-o", tmp_path / "best.yaml") == 0
    assert "warning: the study does not know of this export: " in capsys.readouterr().err
    assert load_production(tmp_path / "best.yaml").config
    with study.database.engine.begin() as connection:
        connection.exec_driver_sql("drop trigger refuse")


def commit() -> str | None:
    """Of this checkout, which need not be one."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "rev-parse", "HEAD"]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.strip()
