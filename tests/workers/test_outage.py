"""A database that is away for a while: training goes on, and nothing that was reported is lost."""

import itertools
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import update
from tcp_proxy import Proxy

from tuner.config.errors import StorageAway
from tuner.config.study import BudgetSpec, PrunerSpec, StudySpec
from tuner.data.scenes import generate
from tuner.storage.tables import TrialRow
from tuner.storage.urls import resolve
from tuner.studies.opening import create_or_open, open_study
from tuner.studies.state.records import Assignment, TrialState
from tuner.studies.study import Study
from tuner.trainers.contract import EpochResult
from tuner.workers.devices import SlotPlan
from tuner.workers.line import Line
from tuner.workers.observer import Observer
from tuner.workers.worker import Timing, run_worker

EPOCHS = 12
TIMING = Timing(heartbeat=0.3, patience=1.0, settle=0.3, stop_grace=20.0, stalled=2.0)
postgres = pytest.mark.parametrize("database_url", ["postgres"], indirect=True)


@pytest.fixture
def proxy(database_url: str) -> Iterator[Proxy]:
    url = resolve(database_url)
    with Proxy(url.host or "127.0.0.1", url.port or 5432) as proxy:
        yield proxy


@pytest.fixture
def study(database_url: str, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Study]:
    """A study of one trial behind the proxy."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.chdir(tmp_path)
    data = generate(tmp_path / "data", train=4, val=2, test=1, size=(64, 48))
    url = resolve(database_url).set(host="127.0.0.1", port=proxy.port)
    study = create_or_open(
        StudySpec(
            name="cells", data=data, defaults={"epochs": EPOCHS, "image_size": 64},
            space={"learning_rate": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True}},
            pruner=PrunerSpec(name="none"), budget=BudgetSpec(trials=1),
            storage=url.render_as_string(hide_password=False).replace("+psycopg", ""),
        )
    )  # fmt: skip
    plan = {"*": {"seconds": 0.2}}
    (study.folder.parents[0] / "plan.json").write_text(json.dumps(plan))
    yield study
    study.close()


def trained(study: Study) -> int:
    """Epochs that the trial process has finished, as its own folder says."""
    file = study.folder / "trials" / "0" / "last.pt"
    return len(json.loads(file.read_text())) if file.exists() else 0


class Cutter(Observer):
    """Cuts the line after the second epoch, and mends it when the trial has trained `until` epochs."""

    def __init__(self, study: Study, cut: Callable[[], None], mend: Callable[[], None], until: int) -> None:
        self.notices: list[str] = []
        self.ended: list[str] = []
        self._study, self._cut, self._mend, self._until = study, cut, mend, until
        self._mending = threading.Thread(target=self._wait, daemon=True)

    def epoch_reported(self, assignment: Assignment, result: EpochResult) -> None:
        if result.epoch == 2 and not self._mending.is_alive():
            self._cut()
            self._mending.start()

    def trial_ended(self, assignment: Assignment, ended: object) -> None:
        self.ended.append(str(ended))

    def notice(self, text: str) -> None:
        self.notices.append(text)

    def _wait(self) -> None:
        while trained(self._study) < self._until:
            time.sleep(0.02)
        self._mend()


def run(study: Study, cutter: Cutter) -> None:
    run_worker(
        study, slots=[SlotPlan(0, "cpu", 1)], trainer="fake_trainer:train", observers=[cutter], timing=TIMING
    )  # fmt: skip


@postgres
@pytest.mark.parametrize("how", ["cut", "frozen"])
@pytest.mark.parametrize("until", [6, EPOCHS])
def test_training_goes_on_while_the_database_is_away(study: Study, proxy: Proxy, how: str, until: int) -> None:
    away, back = (proxy.stop, proxy.start) if how == "cut" else (proxy.freeze, proxy.thaw)
    cutter = Cutter(study, away, back, until)
    run(study, cutter)
    (trial,) = study.trials()
    assert trial.state is TrialState.COMPLETE
    assert [epoch.epoch for epoch in trial.epochs] == list(range(1, EPOCHS + 1))
    assert [attempt.outcome for attempt in trial.attempts] == ["complete"]
    assert study.optuna.trials[0].value == trial.value
    assert list(study.optuna.trials[0].intermediate_values) == list(range(1, EPOCHS + 1))
    assert any("their reports are kept" in text for text in cutter.notices), cutter.notices
    assert any("answers again" in text for text in cutter.notices)


@postgres
def test_a_connection_whose_answers_are_lost_is_given_up_for_a_new_one(study: Study, proxy: Proxy) -> None:
    cutter = Cutter(study, proxy.lose_answers, lambda: None, EPOCHS)
    run(study, cutter)
    (trial,) = study.trials()
    assert (trial.state, len(trial.epochs)) == (TrialState.COMPLETE, EPOCHS)
    assert any("has not answered within 1 s" in text for text in cutter.notices), cutter.notices
    assert any("answers again" in text for text in cutter.notices)


@postgres
def test_a_second_ctrl_c_waits_for_no_database(study: Study, proxy: Proxy) -> None:
    class Impatient(Observer):
        def epoch_reported(self, assignment: Assignment, result: EpochResult) -> None:
            if result.epoch == 2:
                proxy.freeze()
                for seconds in (0.5, 1.0):
                    threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT)).start()

    timing = Timing(patience=1000.0, stop_grace=1000.0)
    with pytest.raises(StorageAway, match="has not answered within 2 s") as error:
        run_worker(
            study, slots=[SlotPlan(0, "cpu", 1)], trainer="fake_trainer:train", observers=[Impatient()], timing=timing
        )
    assert "goes on once it answers" in error.value.hint
    proxy.thaw()


@postgres
def test_what_was_kept_is_not_delivered_once_the_trial_is_another_workers(
    study: Study, proxy: Proxy, database_url: str
) -> None:
    other = open_study("cells", database_url)

    def taken_and_ended() -> None:
        steal = update(TrialRow).values(token=TrialRow.token + 1, state=TrialState.PRUNED)
        other.database.run(lambda session: session.execute(steal) and None)
        proxy.start()

    cutter = Cutter(study, proxy.stop, taken_and_ended, 6)
    run(study, cutter)
    (trial,) = other.trials()
    other.close()
    assert trial.state is TrialState.PRUNED
    assert len(trial.epochs) < 5
    assert ["interrupted" in ended for ended in cutter.ended] == [True]
    assert any("is stopped: trial 0 was given to another worker" in text for text in cutter.notices)


def test_a_line_fails_at_once_while_it_is_cut_and_is_restored_by_an_answer() -> None:
    there, asked = threading.Event(), threading.Event()

    def ping() -> None:
        asked.set()
        if not there.is_set():
            raise StorageAway("away")

    def fail() -> None:
        raise StorageAway("no route")

    stalled = threading.Event()
    line = Line(ping, stalled.set, patience=0.2, stalled=0.3, pause=0.01)
    assert line.call(lambda: 7) == 7
    for trouble in (fail, stalled.wait):
        asked.clear()
        with pytest.raises(StorageAway):
            line.call(trouble)
        assert line.cut
        with pytest.raises(StorageAway):
            line.call(lambda: pytest.fail("the line is cut"))
        while not asked.wait(0.01):  # what stalls is abandoned by one who looks
            assert not line.restored()
        assert not line.restored()
        there.set()
        while not line.restored():
            time.sleep(0.01)
        assert not line.restored()
        assert line.call(lambda: 8) == 8
        there.clear()
    with pytest.raises(ZeroDivisionError):
        line.call(lambda: 1 // 0)
    assert not line.cut
    line.close()


def test_a_ping_that_gets_no_answer_is_abandoned_like_a_call() -> None:
    answers = threading.Semaphore(0)  # one for each that is abandoned

    def ping() -> None:
        answers.acquire()
        raise StorageAway("ended")

    def refuse() -> None:
        raise StorageAway("the server closed the connection")

    abandoned: list[float] = []

    def abandon() -> None:
        abandoned.append(time.monotonic())
        answers.release()

    line = Line(ping, abandon, patience=5.0, stalled=0.1, pause=0.01)
    with pytest.raises(StorageAway):
        line.call(refuse)
    while len(abandoned) < 3:
        assert not line.restored()
        time.sleep(0.01)
    assert all(later - earlier > 0.1 for earlier, later in itertools.pairwise(abandoned))
    line.close()
    answers.release()
