"""Studies in bad weather: workers and trial processes that are killed, told to end or frozen at random moments."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest
from hosts import LIMIT, check_whole, epochs_of, make_study, outcome, start_host, trial_processes, until

from tuner.config.study import DataSpec
from tuner.studies.deleting import delete_study
from tuner.studies.state.records import TrialState
from tuner.studies.study import Study
from tuner.workers.devices import SlotPlan
from tuner.workers.worker import run_worker

TRIALS, HOSTS = 30, 3
Hosts = list[subprocess.Popen[str]]


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    started: Hosts = []
    yield started
    for host in started:
        host.kill()
        host.communicate()


def slow(study: Study, seconds: float) -> None:
    """How long each epoch takes."""
    (study.folder.parent / "plan.json").write_text(json.dumps({"*": {"seconds": seconds}}))


def kill(host: subprocess.Popen[str]) -> None:
    host.kill()


def kill_trial_process(host: subprocess.Popen[str]) -> None:
    for process in trial_processes(host):
        process.kill()


def terminate(host: subprocess.Popen[str]) -> None:
    """As batch systems do: to all processes, again and again."""
    for _ in range(3):
        for process in [*trial_processes(host), host]:
            process.send_signal(signal.SIGTERM)
        time.sleep(0.05)


def freeze(host: subprocess.Popen[str]) -> None:
    """Stall it until it is given up, then let it wake up."""
    host.send_signal(signal.SIGSTOP)
    time.sleep(2.5)
    host.send_signal(signal.SIGCONT)


def freeze_all(host: subprocess.Popen[str]) -> None:
    """Likewise with its trial processes, as a batch system does that makes room for another job."""
    everything = [*trial_processes(host), psutil.Process(host.pid)]
    for process in everything:
        process.suspend()
    time.sleep(2.5)
    for process in everything:
        process.resume()


BLOWS: list[Callable[[subprocess.Popen[str]], None]] = 2 * [kill, kill_trial_process, terminate]


def working(hosts: Hosts) -> Hosts:
    return [host for host in hosts if trial_processes(host)]


def ready(study: Study, begun: int, hosts: Hosts) -> bool:
    return len(study.trials(epochs=False)) > begun and may_be_hit(study) and bool(working(hosts))


def may_be_hit(study: Study) -> bool:
    """Whether no running trial is so near its last attempt that one more blow would rightly fail it."""
    running = study.trials(states=[TrialState.RUNNING, TrialState.INTERRUPTED], epochs=False)
    return all(sum(a.outcome in ("killed", "lost") for a in trial.attempts) < 2 for trial in running)


@pytest.mark.parametrize("database_url", ["sqlite", "postgres"], indirect=True)
def test_a_study_ends_like_an_undisturbed_one(data: DataSpec, database_url: str, folder: Path, hosts: Hosts) -> None:
    budget = {"trials": TRIALS}
    study = make_study(data, database_url, budget=budget)
    slow(study, 0.0)
    run_worker(study, slots=[SlotPlan(0, "cpu", 1)], trainer="fake_trainer:train")
    undisturbed = outcome(study)
    study.close()
    delete_study("cells", database_url)

    study = make_study(data, database_url, budget=budget)
    slow(study, 1.0)  # so that there are trials left to hit on a busy machine
    chance = random.Random(7)
    up: Hosts = []
    for blow in [freeze, freeze_all, *BLOWS]:
        up = [host for host in up if host.poll() is None]
        while len(up) < HOSTS:
            up.append(start_host(study, patience=LIMIT))  # a busy disk is no outage, in which trials would go on
            hosts.append(up[-1])
        begun = len(study.trials(epochs=False))
        time.sleep(chance.uniform(0.2, 1.2))
        until(partial(ready, study, begun, up))
        blow(chance.choice(working(up)))
    slow(study, 0.0)
    last = start_host(study)
    hosts.append(last)
    for host in [*up, last]:
        host.communicate(timeout=LIMIT)
    check_whole(study, TRIALS)
    assert outcome(study) == undisturbed
    ends = [attempt.outcome for trial in study.trials() for attempt in trial.attempts]
    assert ends.count("complete") == TRIALS
    assert {"lost", "killed", "interrupted"} <= set(ends)
    study.close()


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_hosts_whose_clocks_differ_by_minutes(data: DataSpec, folder: Path, hosts: Hosts, database_url: str) -> None:
    study = make_study(data, database_url, budget={"trials": 5})
    slow(study, 0.3)
    late, early = start_host(study, shift=-400.0), start_host(study, shift=400.0)
    hosts += [late, early]
    until(lambda: len({a.pid for trial in study.trials(epochs=False) for a in trial.attempts}) == 2, of=late)
    until(lambda: sum(epochs_of(study, number) for number in (0, 1)) >= 3, of=early)
    kill(late)
    early.communicate(timeout=LIMIT)
    check_whole(study, 5)
    attempts = [attempt for trial in study.trials() for attempt in trial.attempts]
    # Neither took a trial from the other while that one lived.
    assert [a.pid for a in attempts if a.outcome == "lost"] == [late.pid]
    assert len(attempts) == 6
    study.close()
