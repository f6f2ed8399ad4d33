"""A worker that stalls while the database answers: what it hears then may be out of date."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import sqlalchemy as sa
from hosts import LIMIT, check_whole, make_study, start_host, until

from tuner.data.scenes import generate

SLOW_COMMIT = """
create function take_long() returns trigger language plpgsql
    as $$ begin perform pg_sleep(1); return null; end $$;
create constraint trigger slow after insert on tuner_epochs deferrable initially deferred
    for each row when (new.trial_id = 1 and new.epoch = 2 and new.attempt = 1) execute function take_long();
"""
COMMITS = "select count(*) from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()"


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_no_trial_goes_on_by_an_answer_that_is_older_than_its_lease(
    tmp_path: Path, folder: Path, database_url: str
) -> None:
    study = make_study(generate(tmp_path / "scenes", train=4, val=2, test=1, size=(64, 48)), database_url)
    (study.folder.parent / "plan.json").write_text(json.dumps({"*": {"seconds": 0.5}}))
    with study.database.engine.begin() as connection:
        connection.execute(sa.text(SLOW_COMMIT))

    def commits() -> bool:
        with study.database.engine.connect() as connection:
            return bool(connection.execute(sa.text(COMMITS)).scalar_one())

    hosts = [start_host(study, patience=LIMIT) for _ in range(2)]
    until(commits, of=hosts[0])
    trial = study.trials(epochs=False)[0]
    stalled = next(host for host in hosts if host.pid == trial.attempts[0].pid)
    stalled.send_signal(signal.SIGSTOP)  # the epoch will be stored, and nobody hears of it
    worked = study.folder / "trials" / str(trial.number) / "worked.txt"
    until(lambda: len({line.split()[0] for line in worked.read_text().splitlines()}) == 2)
    stalled.send_signal(signal.SIGCONT)
    for host in hosts:
        said = host.communicate(timeout=LIMIT)[0]
        assert host.returncode == 0, said
    check_whole(study, 3)
    assert [[attempt.outcome for attempt in trial.attempts] for trial in study.trials()] == [
        ["lost", "complete"], ["complete"], ["complete"]
    ]  # fmt: skip
    study.close()
