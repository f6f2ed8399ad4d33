"""What a finished trial leaves in the dashboard."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import optuna
import pytest
import yaml
from finished_study import fake_detections, finished_study, make_study, run_trial
from optuna_dashboard import get_note, save_note
from sqlalchemy import text

from tuner.config.trial import TrialConfig
from tuner.evaluation.metrics import Metrics
from tuner.report.dashboard import DashboardObserver
from tuner.report.serve import dashboard_of
from tuner.studies.opening import open_study
from tuner.studies.state.provenance import WorkerInfo
from tuner.studies.study import Study
from tuner.trainers.contract import EpochResult
from tuner.workers.devices import SlotPlan
from tuner.workers.messages import Ended

FILES = ["1-anchors.png", "2-learning-curve.png", "3-precision-recall.png", "4-examples.jpg"]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    study = finished_study(tmp_path_factory.mktemp("finished"))
    yield study
    study.close()


def details(study: Study) -> dict[str, object]:
    """The study as the dashboard's page gets it."""
    url = str(study.spec.storage)
    with dashboard_of(url, study.name, "127.0.0.1", 0) as (server, page):
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            address = f"http://127.0.0.1:{server.server_port}"
            number = page.rsplit("/", 1)[1]
            with urllib.request.urlopen(f"{address}/api/studies/{number}") as answer:
                found = json.load(answer)
            for trial in found["trials"]:
                for artifact in trial["artifacts"]:
                    link = f"{address}/artifacts/{number}/{trial['trial_id']}/{artifact['artifact_id']}"
                    with urllib.request.urlopen(link) as answer:
                        artifact["body"] = answer.read()
                        assert answer.headers["Content-Type"] == artifact["mimetype"]
            return found
        finally:
            server.shutdown()
            thread.join()


def test_each_trial_has_its_pictures_and_its_note(study: Study) -> None:
    trials = details(study)["trials"]
    assert len(trials) == 2
    for trial in trials:
        artifacts = sorted(trial["artifacts"], key=lambda a: a["filename"])
        assert [a["filename"] for a in artifacts] == FILES
        for artifact in artifacts:
            picture = cv2.imdecode(np.frombuffer(artifact["body"], np.uint8), cv2.IMREAD_COLOR)
            assert picture.std() > 1
            assert len(artifact["body"]) < 400_000
        assert "learning_rate" in trial["note"]["body"]
        assert "anchor_sizes" in trial["note"]["body"]
        assert "Operating point: NMS IoU 0.60, confidence 0.300" in trial["note"]["body"]
    assert "default config" in trials[0]["note"]["body"]
    assert "default config" not in trials[1]["note"]["body"]


def test_a_trial_that_runs_has_its_full_config(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    assignment = study.next_trial(WorkerInfo())
    assert assignment is not None
    DashboardObserver(study).trial_started(assignment, SlotPlan(0, "cpu", 1))
    body = details(study)["trials"][0]["note"]["body"]
    assert body.startswith("**running** after 0 of 3 epochs")
    config = yaml.safe_load(body.partition("```yaml\n")[2].removesuffix("```\n"))
    assert TrialConfig.model_validate(config) == assignment.config
    study.close()


@pytest.mark.parametrize(("before", "after"), [("", "Look at **7**.\n"), ("Mine\n\n", "and mine"), ("no config", None)])
def test_what_a_reader_wrote_into_a_note_stays(tmp_path: Path, before: str, after: str | None) -> None:
    study = make_study(tmp_path)
    observer = DashboardObserver(study)
    assignment = study.next_trial(WorkerInfo())
    assert assignment is not None
    observer.trial_started(assignment, SlotPlan(0, "cpu", 1))
    page = SimpleNamespace(storage=study.database.optuna, study=study.optuna, _trial_id=assignment.trial_id)
    save_note(page, before if after is None else before + get_note(page) + after)
    for epoch in (1, 2):
        study.report(assignment, EpochResult(epoch, Metrics(map=0.1), {}, 0.01, 1.0, 0.1, 1.0, 0))
        observer.trial_ended(assignment, Ended("pruned"))
    note = get_note(page)
    assert note.startswith(before or "**running** after 2 of 3 epochs")
    assert note.endswith(after or "```\n")
    assert note.count("after 2 of 3 epochs") == note.count("```yaml") == 1
    study.close()


def test_an_interrupted_trial_is_left_alone(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    observer = DashboardObserver(study)
    assignment = study.next_trial(WorkerInfo())
    assert assignment is not None
    study.interrupt(assignment)
    observer.trial_ended(assignment, Ended("interrupted"))
    assert list(study.folder.rglob("artifacts/*")) == []
    study.close()


def test_the_pictures_of_a_renamed_study_lie_in_its_folder_of_the_new_name(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    storage = study.database.optuna
    optuna.copy_study(from_study_name="scenes", from_storage=storage, to_storage=storage, to_study_name="new")
    optuna.delete_study(study_name="scenes", storage=storage)
    study.close()
    study = open_study("new", f"sqlite:///{tmp_path}/tuner.db")
    observer = DashboardObserver(study)
    study.make_folder()  # as the worker does, after it was given its observers
    run_trial(study, observer, 0.9)
    assert [artifact["filename"] for artifact in details(study)["trials"][0]["artifacts"]] == FILES
    assert len(list((tmp_path / "new" / "artifacts").iterdir())) == len(FILES)
    study.close()


def test_a_trial_that_was_paused_and_ends_again_shows_its_last_pictures_alone(tmp_path: Path) -> None:
    study = make_study(tmp_path)

    class Pausing(DashboardObserver):
        """Hears of each trial's end twice, the first time before it has detections."""

        def trial_ended(self, assignment, ended) -> None:
            detections = study.folder / "trials" / str(assignment.number) / "detections.npz"
            detections.rename(tmp_path / "later.npz")
            super().trial_ended(assignment, Ended("paused"))
            (tmp_path / "later.npz").rename(detections)
            super().trial_ended(assignment, ended)

    run_trial(study, Pausing(study), 0.9)
    names = [artifact["filename"] for artifact in details(study)["trials"][0]["artifacts"]]
    assert sorted(names) == FILES
    assert len(list((study.folder / "artifacts").iterdir())) == len(FILES)
    study.close()


def test_what_cannot_be_drawn_is_left_out_with_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    study = make_study(tmp_path)

    class Careless(DashboardObserver):
        """Finds its evidence damaged."""

        def trial_ended(self, assignment, ended) -> None:
            (study.folder / "trials" / str(assignment.number) / "detections.npz").write_bytes(b"damaged")
            super().trial_ended(assignment, ended)

    with caplog.at_level(logging.WARNING):
        run_trial(study, Careless(study), 0.9)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1
    assert lines[0].startswith("trial 0: no detections for the dashboard: ")
    names = [a["filename"] for a in details(study)["trials"][0]["artifacts"]]
    assert sorted(names) == FILES[:2]
    study.close()


def test_a_database_that_refuses_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Optuna hides what its storage met behind an error of its own."""
    study = make_study(tmp_path)
    drop = text("drop table study_system_attributes")
    study.database.run(lambda session: session.execute(drop) and None)
    with caplog.at_level(logging.WARNING):
        run_trial(study, DashboardObserver(study), 0.9)
    lines = [record.getMessage() for record in caplog.records]
    assert [line.split(" for the dashboard: ")[0] for line in lines] == [f"trial 0: no {n}" for n in ("note", *FILES)]
    for line in lines:
        assert f"the database {study.database.url.database} cannot be used: no such table" in line
    study.close()


def test_a_trial_of_another_machine_has_no_detections_and_no_complaint(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    study = make_study(tmp_path)
    run_trial(study, DashboardObserver(study), 0.9, detections=False)
    assert not caplog.records
    assert get_note(study.optuna) == ""  # the study's own note is the user's
    study.close()


def test_drawing_needs_no_torch() -> None:
    code = "import sys, tuner.report.dashboard; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_fake_detections_are_what_they_say(study: Study) -> None:
    fake_detections(study.dataset.val, 0.5).check(len(study.dataset.val), len(study.dataset.val.classes))
