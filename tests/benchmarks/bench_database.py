"""What the database costs a study: time per reported epoch, the next ask, and `tuner status`, with many trials.

    python tests/benchmarks/bench_database.py [--url URL] [--trials 10000] [--workers 1 8 64] [--epochs 10] [--space S]

Without --url a new SQLite file is used, and 64 workers are left out. The study is filled with finished trials.
Then `status` runs in its own process, one worker asks again and again, and so many simulated workers at once, a
process each, report epochs of 2 s: each sleeps for what its report left over of the 2 s. They are forked from a
process that has read the study, so that what is measured is a worker in the middle of its life; what the first
ask of a fresh worker costs is printed beside. So are the CPU time of a report in the worker itself, and the time of
one trivial transaction of each worker in the middle of each epoch: the floor of a machine that runs all of them.

Workers report twice: in trials that end as the pruner says, so that they ask for new ones all the time, and in one
trial each, all asked for before. Sampling is work of the workers' own CPUs, which here are the server's, too: the
second figure is what the database costs workers that are hosts of their own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

import optuna
from optuna.storages._rdb import models
from sqlalchemy import insert

from tuner.config.study import StudySpec
from tuner.data import scenes
from tuner.evaluation.metrics import Metrics
from tuner.storage.tables import AttemptRow, EpochRow, TrialRow
from tuner.studies.opening import create_or_open, open_study
from tuner.studies.state.provenance import WorkerInfo
from tuner.studies.state.records import Assignment
from tuner.studies.study import Study
from tuner.studies.trials.leases import AskBusy
from tuner.trainers.contract import EpochResult

EPOCH_SECONDS = 2.0
HORIZON = 30
NAME = "bench"
T = TypeVar("T")


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url")
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 8, 64])
    parser.add_argument("--epochs", type=int, default=10, help="that each simulated worker reports")
    parser.add_argument("--space", default="default")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with tempfile.TemporaryDirectory() as scratch:
        url = arguments.url or f"sqlite:///{scratch}/tuner.db"
        workers = [count for count in arguments.workers if arguments.url or count <= 8]
        run(url, arguments.trials, workers, arguments.epochs, arguments.space, Path(scratch))


def run(url: str, trials: int, workers: Sequence[int], epochs: int, space: str, scratch: Path) -> None:
    """Fill a study and measure."""
    data = scenes.generate(scratch / "scenes", train=6, val=3, test=2, size=(96, 64))
    name = f"{NAME}-{uuid.uuid4().hex[:8]}"
    defaults = {"epochs": HORIZON, "image_size": 96}
    spec = StudySpec.model_validate(
        {"data": data, "storage": url, "name": name, "space": space, "defaults": defaults, "budget": {"trials": None}}
    )
    study = create_or_open(spec)
    print(f"{study.database.engine.dialect.name}, {trials} finished trials, space {space}")
    began = time.perf_counter()
    fill(study, trials)
    print(f"  filled in {time.perf_counter() - began:.0f} s")
    status(name, url)
    asks(study)
    for count in workers:
        for asking in (True, False):
            report(study, count, epochs, asking=asking)
    study.close()


def fill(study: Study, count: int) -> None:
    """Write finished trials, as a long study leaves them: a third trained to the end, the others pruned early."""
    study.dataset  # noqa: B018 - its fingerprint
    memory = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    first = study.next_trial(WorkerInfo())
    assert first is not None
    finish(study, first)
    tables: dict[Any, list[dict[str, Any]]] = {
        table: []
        for table in (
            models.TrialModel, models.TrialParamModel, models.TrialValueModel, models.TrialIntermediateValueModel,
            models.TrialUserAttributeModel, models.TrialSystemAttributeModel, TrialRow, AttemptRow, EpochRow,
        )
    }  # fmt: skip
    study_id = study.database.run(lambda session: session.get_one(TrialRow, first.trial_id).study_id)
    optuna_id, now = study.optuna._study_id, datetime.now()
    seconds = time.time()
    for number in range(1, count):
        trial_id, trial = first.trial_id + number, memory.ask()
        config = study.space.suggest(trial, first.config).model_dump(mode="json")
        length = HORIZON if number % 3 == 0 else (3, 9)[number % 2]
        state = "COMPLETE" if length == HORIZON else "PRUNED"
        curve = [0.5 * (1 - 0.8**epoch) + 1e-5 * (number % 997) for epoch in range(1, length + 1)]
        tables[models.TrialModel].append(
            {"trial_id": trial_id, "number": number, "study_id": optuna_id, "state": state,
             "datetime_start": now, "datetime_complete": now}
        )  # fmt: skip
        for param, distribution in trial.distributions.items():
            tables[models.TrialParamModel].append(
                {"trial_id": trial_id, "param_name": param,
                 "param_value": distribution.to_internal_repr(trial.params[param]),
                 "distribution_json": optuna.distributions.distribution_to_json(distribution)}
            )  # fmt: skip
        tables[models.TrialValueModel].append(
            {"trial_id": trial_id, "objective": 0, "value": curve[-1], "value_type": "FINITE"}
        )
        for epoch, value in enumerate(curve, 1):
            tables[models.TrialIntermediateValueModel].append(
                {"trial_id": trial_id, "step": epoch, "intermediate_value": value, "intermediate_value_type": "FINITE"}
            )
            tables[EpochRow].append(
                {"trial_id": trial_id, "epoch": epoch, "attempt": 1, "value": value, "losses": {"box": 1.0},
                 "metrics": metrics(value).model_dump(mode="json"), "executed": {}, "learning_rate": 1e-3,
                 "train_seconds": 1.5, "eval_seconds": 0.5, "cpu_seconds": 2.0, "peak_memory": 1, "prune": False,
                 "reported_at": seconds}
            )  # fmt: skip
        attributes = {"config": config, "seed": 0, "epochs": length, "seconds": 2.0 * length, "map": curve[-1]}
        tables[models.TrialUserAttributeModel] += [
            {"trial_id": trial_id, "key": key, "value_json": json_of(value)} for key, value in attributes.items()
        ]
        tables[models.TrialSystemAttributeModel] += [
            {"trial_id": trial_id, "key": f"completed_rung_{rung}", "value_json": json_of(curve[epoch - 1])}
            for rung, epoch in enumerate((3, 9, 27))
            if epoch <= length
        ]
        tables[TrialRow].append(
            {"trial_id": trial_id, "study_id": study_id, "number": number, "is_default": False, "seed": 0,
             "params": trial.params, "config": config, "resolved": True, "state": state.lower(), "told": True,
             "token": 1, "lease_until": 0.0, "value": curve[-1], "created_at": seconds, "finished_at": seconds,
             "epochs": length, "seconds": 2.0 * length, "cpu_seconds": 2.0 * length, "peak_memory": 1}
        )  # fmt: skip
        tables[AttemptRow].append(
            {"trial_id": trial_id, "number": 1, "host": "h", "pid": 1, "device": "cpu", "versions": {},
             "started_at": seconds, "ended_at": seconds, "outcome": state.lower(), "seconds": 2.0 * length,
             "cpu_seconds": 2.0 * length, "peak_memory": 1}
        )  # fmt: skip
    with study.database.engine.begin() as connection:
        for table, rows in tables.items():
            connection.execute(insert(table), rows)
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(
                "select setval(pg_get_serial_sequence('trials', 'trial_id'), (select max(trial_id) from trials))"
            )
            connection.exec_driver_sql("analyze")


def json_of(value: Any) -> str:
    """As Optuna writes attributes."""
    import json

    return json.dumps(value)


def status(name: str, url: str) -> None:
    """Time `tuner status`, its start included."""
    times = []
    for _ in range(3):
        began = time.perf_counter()
        command = [sys.executable, "-c", "from tuner.cli.main import main; main()", "status", name, "--storage", url]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - began)
    print(f"  tuner status: {min(times):.2f} s")


def asks(study: Study) -> None:
    """Time the first ask of a fresh worker, then the next ones."""
    study = open_study(study.name, study.database.url.render_as_string(hide_password=False))
    study.dataset  # noqa: B018 - a worker has read it
    times = []
    for _ in range(16):
        began = time.perf_counter()
        assignment = ask(study)
        times.append(time.perf_counter() - began)
        assert assignment is not None
        finish(study, assignment)
    study.close()
    print(f"  first ask of a worker: {times[0]:.2f} s; next asks: median {statistics.median(times[1:]):.3f} s")


def finish(study: Study, assignment: Assignment) -> None:
    """Train a trial, in no time."""
    for epoch in range(assignment.first_epoch, assignment.config.epochs + 1):
        if study.report(assignment, result(epoch)):
            study.stop_early(assignment)
            return
    study.complete(assignment)


def ask(study: Study) -> Assignment | None:
    """The next trial, as a worker asks for it: again and again while others go first."""
    while True:
        try:
            return study.next_trial(WorkerInfo(pid=os.getpid()))
        except AskBusy:
            time.sleep(0.5)


def report(study: Study, workers: int, epochs: int, *, asking: bool) -> None:
    """Time reports of epochs by several workers at once, in trials that end early or in one trial each."""
    context = multiprocessing.get_context("fork")
    for _ in range(3):
        assignment = ask(study)
        assert assignment is not None
        finish(study, assignment)
    pipes, processes = [], []
    begun = context.Barrier(workers)
    for number in range(workers):
        ours, theirs = context.Pipe(duplex=False)
        offset = EPOCH_SECONDS * number / workers
        wait = (lambda: None) if asking else begun.wait
        process = context.Process(target=simulate, args=(study, theirs, epochs, offset, wait, asking))
        process.start()
        theirs.close()
        pipes.append(ours)
        processes.append(process)
    told = [pipe.recv() for pipe in pipes]
    times, cpu, floor, others = ([seconds for one in told for seconds in one[kind]] for kind in range(4))
    for process in processes:
        process.join()
    mean, worst = statistics.mean(times), statistics.quantiles(times, n=20)[-1]
    who = f"{workers} workers" if asking else f"{workers} workers, none asks"
    print(
        f"  {who}: {1e3 * mean:.1f} ms of database per reported epoch ({mean / EPOCH_SECONDS:.2%} of "
        f"{EPOCH_SECONDS:.0f} s), median {1e3 * statistics.median(times):.1f} ms, 95 % below {1e3 * worst:.1f} ms; "
        f"{1e3 * statistics.mean(cpu):.1f} ms of CPU in the worker; a trivial transaction meanwhile: mean "
        f"{1e3 * statistics.mean(floor):.1f} ms, median {1e3 * statistics.median(floor):.1f} ms; "
        f"asks and ends: {1e3 * sum(others) / len(times):.1f} ms per epoch"
    )


def simulate(
    study: Study, answer: Connection, epochs: int, offset: float, wait: Callable[[], object], asking: bool
) -> None:
    """A worker: asks, waits for the others, trains by sleeping, and reports."""
    study.database.engine.dispose(close=False)
    times: list[float] = []
    cpu: list[float] = []
    floor: list[float] = []
    others: list[float] = []

    def timed(into: list[float], work: Callable[[], T]) -> T:
        began = time.perf_counter()
        done = work()
        into.append(time.perf_counter() - began)
        return done

    while len(times) < epochs:
        assignment = timed(others, lambda: ask(study))
        assert assignment is not None
        if not times:
            wait()
            time.sleep(offset)
        time.sleep(EPOCH_SECONDS)
        for epoch in range(assignment.first_epoch, assignment.config.epochs + 1):
            began = time.process_time()
            prune = timed(times, partial(study.report, assignment, result(epoch)))
            cpu.append(time.process_time() - began)
            if (prune and asking) or len(times) == epochs:
                break
            time.sleep(max(0.0, EPOCH_SECONDS / 2 - times[-1]))
            timed(floor, study.ping)
            time.sleep(max(0.0, EPOCH_SECONDS / 2 - floor[-1]))
        timed(others, partial(study.prune, assignment, "stopped by the pruner"))
    answer.send((times, cpu, floor, others))
    study.close()
    os._exit(0)


def metrics(value: float) -> Metrics:
    """Metrics of an epoch of three classes."""
    special = ("class_map", "operating_point")
    names = [name for name, field in Metrics.model_fields.items() if field.is_required() and name not in special]
    return Metrics(**dict.fromkeys(names, value), class_map=dict.fromkeys(("a", "b", "c"), value), operating_point=None)


def result(epoch: int) -> EpochResult:
    """What an epoch brought."""
    value = 0.5 * (1 - 0.8**epoch) + 1e-4 * (os.getpid() % 97)
    return EpochResult(epoch, metrics(value), {"box": 1.0, "class": 0.5}, 1e-3, 1.5, 0.5, 2.0, 2**30)


if __name__ == "__main__":
    main()
