"""Machines that fail: a worker lost with the built-in trainer, a database that is stopped, a disk that is full."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from hosts import LIMIT, check_whole, epochs_of, make_study, outcome, start_host, trial_processes, until
from postgres import Postgres, programs

from tests.conftest import skip_or_fail
from tuner.config.errors import DiskError
from tuner.config.study import DataSpec
from tuner.data.scenes import generate
from tuner.studies.opening import open_study
from tuner.workers.devices import SlotPlan
from tuner.workers.observer import Observer
from tuner.workers.trainer_choice import BUILT_IN_TRAINER
from tuner.workers.worker import Timing, run_worker

SLOT = [SlotPlan(0, "cpu", 1)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSpec:
    return generate(tmp_path_factory.mktemp("scenes"), train=8, val=4, test=1, size=(64, 48))


def test_a_killed_worker_costs_a_real_training_nothing(data: DataSpec, folder: Path) -> None:
    """Taken over by another worker, it ends bit for bit where the undisturbed one does."""
    found = []
    for name in ("undisturbed", "killed"):
        changes = {"defaults": {"epochs": 3, "image_size": 64, "batch_size": 2}, "budget": {"trials": 1}}
        study = make_study(data, f"sqlite:///{folder / name}/tuner.db", **changes)
        if name == "killed":
            host = start_host(study, trainer=BUILT_IN_TRAINER)
            until(lambda study=study: epochs_of(study, 0) >= 1, of=host)
            os.killpg(host.pid, signal.SIGKILL)  # power loss: the trial process has a group of its own
            host.communicate()
        host = start_host(study, trainer=BUILT_IN_TRAINER)
        said = host.communicate(timeout=LIMIT)[0]
        assert host.returncode == 0, said
        check_whole(study, 1)
        found.append(outcome(study))
        attempts = [[attempt.outcome for attempt in trial.attempts] for trial in study.trials()]
        study.close()
    assert attempts == [["lost", "complete"]]
    assert found[0] == found[1]
    assert all(losses for _, epochs in found[0] for _, _, losses, _ in epochs)


def test_a_host_that_was_asleep_has_no_trial_that_hangs(data: DataSpec, folder: Path) -> None:
    study = make_study(data, f"sqlite:///{folder}/tuner.db", defaults={"epochs": 8, "image_size": 64})
    (folder / "plan.json").write_text(json.dumps({"*": {"seconds": 0.2}}))
    host = start_host(study, hang=6.0)
    until(lambda: epochs_of(study, 1) >= 2, of=host)  # in a warm process, so that its epochs are short
    everything = [*trial_processes(host), psutil.Process(host.pid)]
    for process in everything:
        process.suspend()
    time.sleep(7.0)
    for process in reversed(everything):
        process.resume()
    said = host.communicate(timeout=LIMIT)[0]
    assert host.returncode == 0, said
    check_whole(study, 3)
    assert [[attempt.outcome for attempt in trial.attempts] for trial in study.trials()] == [["complete"]] * 3
    study.close()


@pytest.fixture
def server() -> Iterator[Postgres]:
    folder = programs()
    if folder is None:
        skip_or_fail("the programs of PostgreSQL are not installed")
    with Postgres(folder) as server:
        yield server


def test_a_database_that_is_stopped_and_started(data: DataSpec, folder: Path, server: Postgres) -> None:
    study = make_study(data, server.url, defaults={"epochs": 8, "image_size": 64}, budget={"trials": 4})
    (folder / "tuner-studies" / "plan.json").write_text(json.dumps({"*": {"seconds": 0.25}}))
    hosts = [start_host(study, lease=60.0) for _ in range(2)]
    for mode, number in (("fast", 0), ("immediate", 2)):
        until(lambda number=number: epochs_of(study, number) >= 2, of=hosts[0])
        worked = study.folder / "trials" / str(number) / "worked.txt"
        server.stop(mode)
        before = len(worked.read_text().splitlines())
        until(lambda worked=worked, before=before: len(worked.read_text().splitlines()) >= before + 3, of=hosts[0])
        server.start()
    for host in hosts:
        said = host.communicate(timeout=LIMIT)[0]
        assert host.returncode == 0, said
    check_whole(study, 4)
    # No trial was begun anew: what was trained meanwhile was kept and delivered.
    assert [[a.outcome for a in trial.attempts] for trial in study.trials()] == [["complete"]] * 4
    study.close()


def test_a_worker_that_is_killed_while_the_database_is_stopped(data: DataSpec, folder: Path, server: Postgres) -> None:
    plan = folder / "tuner-studies" / "plan.json"
    fields = {"defaults": {"epochs": 8, "image_size": 64}, "budget": {"trials": 4}}
    study = make_study(data, server.url, name="undisturbed", **fields)
    plan.write_text(json.dumps({"*": {"seconds": 0.0}}))
    run_worker(study, slots=SLOT, trainer="fake_trainer:train")
    undisturbed = outcome(study)
    study.close()

    study = make_study(data, server.url, **fields)
    plan.write_text(json.dumps({"*": {"seconds": 0.4}}))
    hosts = [start_host(study), start_host(study)]
    until(lambda: min(epochs_of(study, 0), epochs_of(study, 1)) >= 2, of=hosts[0])
    hit = min(study.trials(numbers=[0, 1]), key=lambda trial: trial.last_epoch)  # there is a good deal of it left
    first, second = sorted(hosts, key=lambda host: host.pid != hit.attempts[-1].pid)
    worked = study.folder / "trials" / str(hit.number) / "worked.txt"
    server.stop("immediate")
    before = len(worked.read_text().splitlines())
    until(lambda: len(worked.read_text().splitlines()) >= before + 2, of=first)
    first.kill()
    first.communicate()
    server.start()
    plan.write_text(json.dumps({"*": {"seconds": 0.0}}))
    said = second.communicate(timeout=LIMIT)[0]
    assert second.returncode == 0, said
    check_whole(study, 4)
    assert outcome(study) == undisturbed
    attempts = study.trials(numbers=[hit.number])[0].attempts
    assert [attempt.outcome for attempt in attempts] == ["lost", "complete"]
    # What was trained while the database was away, by a worker that could not tell, is not trained again.
    epochs = [line.split()[1] for line in worked.read_text().splitlines()]
    assert len(epochs) - len(set(epochs)) <= 1  # that which the blow met
    study.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", place], capture_output=True, text=True, check=False
    )  # fmt: skip
    if mounted.returncode:
        pytest.skip(f"only root may mount a small disk: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def fill(filler: Path) -> None:
    """Write into a file until its disk is full."""
    for size in (65536, 1024, 1):
        try:
            with filler.open("ab", buffering=0) as file:
                while True:
                    file.write(b"x" * size)
        except OSError:
            continue


class Filler(Observer):
    """Fills the disk after the second epoch, and frees it once somebody complains."""

    def __init__(self, disk: Path) -> None:
        self.notices: list[str] = []
        self._file = disk / "filler"
        self._filled = False

    def epoch_reported(self, assignment: object, result: object) -> None:
        if getattr(result, "epoch", 0) != 2 or self._filled:
            return
        self._filled = True
        fill(self._file)

    def notice(self, text: str) -> None:
        self.notices.append(text)
        self._file.unlink(missing_ok=True)


@pytest.mark.parametrize("database", ["on the disk", "elsewhere"])
def test_a_disk_that_fills_up(data: DataSpec, folder: Path, small_disk: Path, database: str) -> None:
    file = (small_disk if database == "on the disk" else folder) / "tuner.db"
    study = make_study(data, f"sqlite:///{file}", budget={"trials": 2})
    if database == "elsewhere":
        shutil.move(study.folder, small_disk / study.folder.name)
        study.folder.symlink_to(small_disk / study.folder.name)
    filler = Filler(small_disk)

    timing = Timing(heartbeat=0.3, poll=0.2, settle=0.2)
    report = run_worker(study, slots=SLOT, trainer="fake_trainer:train", observers=[filler], timing=timing)
    if database == "elsewhere":
        assert report.reason == "paused"
        assert "no space left on the disk" in report.message
        filler.notice("room again")
        study.resume()
        report = run_worker(study, slots=SLOT, trainer="fake_trainer:train", timing=timing)
        assert [attempt.outcome for attempt in study.trials()[0].attempts] == ["disk", "complete"]
    else:  # it went on by itself when there was room again
        assert "is full: free some space there; trials go on" in "\n".join(filler.notices)
    assert report.complete == 2
    check_whole(study, 2)
    study.close()
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
    if database == "on the disk":
        fill(small_disk / "filler")
        with pytest.raises(DiskError, match=r"the disk of sqlite:.* is full"):
            open_study("cells", f"sqlite:///{file}")
