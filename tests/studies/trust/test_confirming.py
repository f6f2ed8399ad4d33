"""What runs with fresh seeds say, whatever was asked for before, failed, or is not allowed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session
from study_cases import EPOCHS, WORKER, result, train

from tuner.config.errors import FailureKind, StudyError
from tuner.export.production import production_config
from tuner.storage.tables import TrialRow
from tuner.studies.opening import open_study
from tuner.studies.reading import read_study
from tuner.studies.state.control import set_control
from tuner.studies.state.records import Cost, TrialState
from tuner.studies.study import Study
from tuner.studies.trust.confirm import (
    LeftOver,
    adds_nothing,
    begun,
    confirmation,
    left_over,
    plan_confirmation,
    winner_of,
)
from tuner.studies.trust.confirmation import Confirmation
from tuner.studies.trust.noise import plan_baseline
from tuner.studies.trust.repeats import find_repeats, fresh_seeds, open_repeats

Begin = Callable[..., Study]


def search(study: Study, *values: float) -> None:
    """Complete a trial for each value; the first is the default config's."""
    for value in values:
        assignment = study.next_trial(WORKER)
        assert assignment is not None
        train(study, assignment, value)


def confirm(
    study: Study, top: int, seeds: int, values: Mapping[int, float], failing: Mapping[int, int] | None = None
) -> Confirmation | None:
    """Repeat configs; the values by trial, a little more with each seed, and which trial fails with which seed."""
    repeats = plan_confirmation(study, top, seeds)
    while (run := repeats.next_trial(WORKER)) is not None:
        trial, seed = run.params["trial"], run.params["seed"]
        if (failing or {}).get(trial) == seed:
            repeats.fail(run, FailureKind.DIVERGED, "the loss is not finite")
        else:
            train(repeats, run, values[trial] + 0.001 * seed + 0.0001 * ((trial + seed) % 3))
    return confirmation(study)


@pytest.fixture
def study(begin: Begin, sqlite_url: str) -> Study:
    found = begin(sqlite_url, pruner={"name": "none"})
    search(found, 0.3, 0.4, 0.5)
    return found


def test_more_seeds_for_fewer_configs_are_compared_with_all_of_them(study: Study) -> None:
    values = {0: 0.3, 1: 0.4, 2: 0.5}
    found = confirm(study, 2, 2, values)
    assert found is not None
    assert (found.seeds, found.winner.key, found.left_out) == ((1, 2), 2, {})
    found = confirm(study, 1, 4, values)
    assert found is not None
    assert found.seeds == (1, 2, 3, 4)
    assert found.left_out == {1: "trained with 2 of the 4 seeds"}
    assert found.stands_out
    # A config that is planned later is compared by its own seeds, which the others have, too.
    search(study, 0.6)
    found = confirm(study, 1, 2, values | {3: 0.6})
    assert found is not None
    assert (found.seeds, found.winner.key, found.left_out) == ((1, 2), 3, {})


def test_what_repeats_cost_stands_beside_what_the_search_did(study: Study) -> None:
    before = study.summary()
    assert (before.repeat_epochs, before.repeat_cost) == (0, Cost(0.0, 0.0, 0))
    confirm(study, 1, 2, {0: 0.3, 2: 0.5})
    after = study.summary()
    assert (after.epochs, after.cost) == (before.epochs, before.cost)
    assert after.repeat_epochs == 2 * 2 * EPOCHS
    assert after.repeat_cost.seconds == pytest.approx(before.cost.seconds * 4 / 3)


def test_an_extension_that_is_not_finished_loses_nothing(study: Study) -> None:
    values = {0: 0.3, 1: 0.4, 2: 0.5}
    before = confirm(study, 1, 2, values)
    assert before is not None
    repeats = plan_confirmation(study, 2, 3)
    found = confirmation(study)
    assert found is not None
    assert (found.seeds, found.ranking, found.to_come) == (before.seeds, before.ranking, 5)
    assert found.verdict == f"{before.verdict} (so far: 5 runs are to come)"
    for _ in range(2):  # the default's third seed, and one of the best's
        run = repeats.next_trial(WORKER)
        assert run is not None
        train(repeats, run, values[run.params["trial"]])
    found = confirmation(study)
    assert found is not None
    assert (found.seeds, found.to_come) == ((1, 2, 3), 3)
    found = confirm(study, 2, 3, values)
    assert found is not None
    assert (len(found.ranking.estimates), found.to_come, found.left_out) == (3, 0, {})


def test_a_smaller_request_leaves_what_is_left_of_a_larger_one(study: Study) -> None:
    plan_confirmation(study, 2, 20)
    repeats = plan_confirmation(study, 1, 2)
    assert left_over(study, repeats) == LeftOver(runs=3 * 20 - 4, top=2, seeds=20)
    assert begun(study, 1, 2) is not None
    assert begun(study, 2, 1) is None
    found = confirm(study, 1, 2, {0: 0.3, 2: 0.5})
    assert found is not None
    assert (found.seeds, found.to_come, found.stands_out) == ((1, 2), 0, True)
    counts = {state: count for state, count in repeats.summary().counts.items() if count}
    assert (repeats.unfinished(), counts) == ([], {TrialState.COMPLETE: 4})
    assert repeats.next_trial(WORKER) is None
    assert begun(study, 2, 20) is None
    assert adds_nothing(study, 1, 2)
    assert not adds_nothing(study, 1, 3)
    # Nor does measuring the noise train it, and a new request for all of it goes on with it.
    baseline = plan_baseline(study, 4)
    assert [run.params for run in baseline.unfinished()] == [{"trial": 0, "seed": 3}]
    assert left_over(study, baseline) == LeftOver(runs=3 * 20 - 5, top=2, seeds=20)
    assert len(plan_confirmation(study, 2, 20).unfinished()) == 3 * 20 - 4
    assert left_over(study, plan_confirmation(study, 2, 20)) is None


def test_the_seeds_that_were_asked_for_last_are_compared_and_others_mentioned(study: Study) -> None:
    values = {0: 0.3, 1: 0.4, 2: 0.5}
    before = confirm(study, 1, 5, values)
    assert before is not None
    found = confirm(study, 2, 2, values)
    assert found is not None
    assert (found.seeds, found.unused, found.left_out) == ((1, 2), {2: 3}, {})
    plan_baseline(study, 3)  # no request to compare
    assert confirmation(study) == found
    found = confirm(study, 1, 5, values)
    assert found is not None
    assert (found.ranking, found.seeds, found.unused) == (before.ranking, (1, 2, 3, 4, 5), {})
    assert found.left_out == {1: "trained with 2 of the 5 seeds"}
    provenance = production_config(study).provenance
    assert provenance.confirmation is not None
    assert provenance.confirmation.seeds == found.seeds


def test_what_was_asked_for_before_requests_were_noted_is_compared(study: Study) -> None:
    """Runs that an older version planned have times of their own: the config that was planned last decides."""
    assert confirm(study, 1, 3, {0: 0.3, 2: 0.5}) is not None
    repeats = find_repeats(study)
    assert repeats is not None
    for run in repeats.runs():
        changed = update(TrialRow).where(TrialRow.number == run.number, TrialRow.seed == run.seed, TrialRow.seed > 0)
        study.database.run(lambda s, c=changed, r=run: s.execute(c.values(created_at=1.0 + r.number)))
    found = confirmation(study)
    assert found is not None
    assert (found.seeds, found.to_come) == ((1, 2, 3), 0)


def test_a_seed_with_which_the_default_config_fails_does_not_count(study: Study) -> None:
    found = confirm(study, 2, 3, {0: 0.3, 1: 0.4, 2: 0.5}, failing={0: 2})
    assert found is not None
    assert found.seeds == (1, 3)
    assert found.lost_seeds == {2: "pruned with seed 2: the loss is not finite"}


@pytest.mark.parametrize(
    ("failing", "expected"),
    [
        ({0: 1}, "the default config was pruned with seed 1: .*too few seeds are left"),
        ({2: 1}, "no config beside the default was trained with all seeds: trial 2 was pruned with seed 1"),
    ],
)
def test_what_failed_runs_leave_nothing_of(study: Study, failing: dict[int, int], expected: str) -> None:
    with pytest.raises(StudyError, match=expected):
        confirm(study, 1, 2, {0: 0.3, 2: 0.5}, failing)
    # The best trial can be exported all the same, and the file says why it is not confirmed.
    provenance = production_config(study).provenance
    assert (provenance.trial, provenance.confirmed) == (2, False)
    assert "with seed 1" in provenance.trust


@pytest.mark.parametrize("failing", [0, 2])
def test_a_run_that_failed_for_a_passing_reason_is_made_anew_when_it_is_asked_for_again(
    study: Study, failing: int
) -> None:
    values = {0: 0.3, 2: 0.5}
    repeats = plan_confirmation(study, 1, 3)
    while (run := repeats.next_trial(WORKER)) is not None:
        if (run.params["trial"], run.seed) == (failing, 3):
            repeats.fail(run, FailureKind.DEVICE, "an illegal memory access was encountered")
        else:
            train(repeats, run, values[run.params["trial"]])
    repeats = plan_confirmation(study, 1, 3)
    (again,) = repeats.unfinished()
    assert (again.params, again.last_epoch) == ({"trial": failing, "seed": 3}, 0)
    found = confirmation(study)
    assert found is not None
    assert (found.to_come, found.left_out, found.lost_seeds) == (1, {}, {})
    found = confirm(study, 1, 3, values)
    assert found is not None
    assert (found.seeds, found.left_out, found.lost_seeds, found.to_come) == ((1, 2, 3), {}, {}, 0)
    # It is made anew once, and what failed for a reason of its own never.
    assert plan_confirmation(study, 1, 3).unfinished() == []
    with pytest.raises(StudyError, match="pruned with seed 4"):
        confirm(study, 1, 4, values, failing={2: 4})
    assert plan_confirmation(study, 1, 4).unfinished() == []


def test_the_repeats_of_a_study_are_none_themselves(study: Study) -> None:
    repeats, url = plan_confirmation(study, 1, 2), study.spec.storage
    for reach in (open_study, read_study):
        with pytest.raises(StudyError, match="holds the repeats of study") as raised:
            reach(repeats.name, url)
        assert f"tuner confirm {study.name} --storage {url}" in raised.value.hint


def test_repeats_that_are_made_while_their_study_is_stopped_are_stopped_with_it(studies_url: str, begin: Begin) -> None:
    study = begin(studies_url)
    with ThreadPoolExecutor(1) as pool:
        with Session(study.database.engine) as session, session.begin():
            set_control(session, study._id, "stopped")
            made = pool.submit(open_repeats, study)
            wait([made], timeout=1)
        assert made.result(60).orders().control == "stopped"


def test_only_configs_that_keep_the_constraints_are_confirmed(begin: Begin, sqlite_url: str) -> None:
    study = begin(sqlite_url, pruner={"name": "none"}, constraints=["map50 <= 0.45"])
    search(study, 0.3, 0.4, 0.5)
    found = confirm(study, 5, 2, {0: 0.3, 1: 0.4})
    assert found is not None
    assert [one.key for one in found.ranking.estimates] == [1, 0]
    assert production_config(study).provenance.trial == 1


def test_a_default_config_that_breaks_the_constraints_is_no_winner(begin: Begin, sqlite_url: str) -> None:
    study = begin(sqlite_url, pruner={"name": "none"}, constraints=["map50 <= 0.45"])
    search(study, 0.5, 0.4)
    found = confirm(study, 5, 2, {0: 0.5, 1: 0.4})
    assert found is not None
    assert (found.winner.key, found.stands_out) == (1, False)
    assert "trial 1 is the best that keeps the constraints, -0.1" in found.verdict
    assert production_config(study).provenance.trial == 1


def test_a_confirmed_gain_over_a_default_config_that_is_not_allowed_is_called_so(begin: Begin, sqlite_url: str) -> None:
    study = begin(sqlite_url, pruner={"name": "none"}, constraints=["map50 >= 0.35"])
    search(study, 0.3, 0.5)
    found = confirm(study, 1, 2, {0: 0.3, 1: 0.5})
    assert found is not None
    assert found.stands_out
    assert found.verdict.endswith("; the default config itself does not keep map50 >= 0.35 (0.3016 on average)")
    assert found.verdict in production_config(study).provenance.trust


@pytest.mark.parametrize("epochs", [0, 5])
@pytest.mark.parametrize("constraints", [[], ["map50 >= 0.45"]])
def test_a_default_config_whose_own_trial_is_not_complete_is_judged_by_its_fresh_runs(
    begin: Begin, sqlite_url: str, constraints: list[str], epochs: int
) -> None:
    """After five of nine epochs the default's own trial has half of the map50 that it is allowed to have at the end."""
    study = begin(sqlite_url, pruner={"name": "none"}, constraints=constraints)
    default = study.next_trial(WORKER)
    assert default is not None
    search(study, 0.47)
    train(study, default, 0.5, epochs=epochs)
    study.interrupt(default)
    found = confirm(study, 1, 2, {0: 0.5, 1: 0.46})
    assert found is not None
    assert found.winner is not None
    assert (found.winner.key, found.broken) == (0, {})
    assert found.verdict == "nothing was better than the default config"
    # Its own trial has no thresholds to export: those of the first fresh run are.
    production = production_config(study)
    source = production.provenance
    winner = winner_of(study)
    assert winner is not None
    assert (winner.number, winner.params, winner.seed) == (0, default.params, 1)
    assert (source.trial, source.seed, source.fresh_seed, source.confirmed) == (0, 1, True, True)
    assert source.value == production.metrics.map == pytest.approx(0.5011)
    assert source.trust.endswith("; metrics and thresholds are those of fresh seed 1")
    other = production_config(study, 1).provenance
    assert (other.seed, other.fresh_seed, "fresh seed 1" in other.trust) == (0, False, False)


def test_a_config_that_kept_the_constraints_by_luck_is_no_winner(begin: Begin, sqlite_url: str) -> None:
    study = begin(sqlite_url, pruner={"name": "none"}, constraints=["map50 <= 0.45"])
    search(study, 0.3, 0.4, 0.44)
    found = confirm(study, 2, 2, {0: 0.3, 1: 0.4, 2: 0.46})
    assert found is not None
    assert found.winner is not None
    assert (found.winner.key, found.stands_out) == (1, True)
    assert found.broken == {2: "map50 <= 0.45 (0.4616 on average)"}
    assert [one.key for one in found.ranking.estimates] == [1, 0, 2]
    assert "as the best of 2" in found.verdict  # what keeps a config from winning may be what its values are
    assert production_config(study).provenance.trial == 1
    assert "it does not keep map50 <= 0.45 (0.4616 on average)" in production_config(study, 2).provenance.trust


def test_where_no_config_keeps_the_constraints_none_is_the_winner(begin: Begin, sqlite_url: str) -> None:
    study = begin(sqlite_url, pruner={"name": "none"}, constraints=["map50 <= 0.45"])
    search(study, 0.3, 0.4)
    found = confirm(study, 1, 2, {0: 0.5, 1: 0.6})
    assert found is not None
    assert (found.winner, found.stands_out) == (None, False)
    assert found.verdict == "no config keeps the constraints on average"
    assert "it does not keep map50 <= 0.45" in production_config(study).provenance.trust
    search(study, 0.42)
    trust = production_config(study).provenance.trust
    assert "unconfirmed (no config keeps the constraints on average)" in trust


def test_the_lowest_mean_wins_where_less_is_better(begin: Begin, sqlite_url: str) -> None:
    study = begin(sqlite_url, pruner={"name": "none"}, objective={"metric": "count_mae"})

    def run(owner: Study, values: dict[int, float]) -> None:
        while (run := owner.next_trial(WORKER)) is not None and run.params.get("trial", run.number) in values:
            value = values[run.params.get("trial", run.number)]
            for epoch in range(1, EPOCHS + 1):
                owner.report(run, result(epoch, 0.5, count_mae=value + 0.1 * (run.seed % 2)))
            owner.complete(run)
            if owner is study and run.number == 2:
                return

    run(study, {0: 5.0, 1: 4.0, 2: 6.0})
    run(plan_confirmation(study, 1, 2), {0: 5.0, 1: 4.0})
    found = confirmation(study)
    assert found is not None
    assert (found.winner.key, found.stands_out) == (1, True)
    assert (found.winner.mean, found.winner.gain) == (pytest.approx(4.05), pytest.approx(1.0))


def test_the_largest_seed_leaves_room_for_fresh_ones(begin: Begin, tmp_path: Path) -> None:
    study = begin(f"sqlite:///{tmp_path}/t.db", sampler={"name": "tpe", "seed": 2**31 - 1}, pruner={"name": "none"})
    assert fresh_seeds(study, 3) == [0, 1, 2]
