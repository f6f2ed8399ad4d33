"""Replaying samplers and pruners on stored curves."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from study_cases import EPOCHS, WORKER, operating_point, result, spec_for, train

from tuner.cli.main import main
from tuner.config.errors import FailureKind, StudyError
from tuner.config.study import DataSpec, PrunerSpec, SamplerSpec
from tuner.studies.opening import create_or_open, open_study
from tuner.studies.replay.replay import _outcome, replay_study
from tuner.studies.replay.simulate import simulate
from tuner.studies.replay.stored_curves import StoredCurve, in_order, sampled, stored_curves
from tuner.studies.state.records import TrialState
from tuner.studies.study import Study

Begin = Callable[..., Study]
LIMIT = "map75 <= 0.5"
TOPS = (0.3, 0.5, 0.2, 0.45, 0.1, 0.6, 0.55, 0.05, 0.35, 0.7, 0.15, 0.65)


def curve(top: float) -> list[float]:
    """Good trials start slowly, so that early epochs mislead."""
    return [top * (epoch / EPOCHS) ** (0.5 + 2 * top) for epoch in range(1, EPOCHS + 1)]


def run(study: Study, tops: tuple[float, ...], breaking: Collection[int] = ()) -> None:
    """Train trials one after the other until the study ends, each along the curve of its number.

    Those of `breaking` break `LIMIT` from the first epoch on.
    """
    while (assignment := study.next_trial(WORKER)) is not None:
        values = curve(tops[assignment.number])
        for epoch in range(assignment.first_epoch, EPOCHS + 1):
            map75 = 0.6 if assignment.number in breaking else 0.5
            if study.report(assignment, result(epoch, values[epoch - 1], map75=map75)):
                study.stop_early(assignment)
                break
        else:
            study.complete(assignment)


def ended(number: int, value: float, amounts: Sequence[float] = ()) -> StoredCurve:
    """A complete trial with the same value after each epoch, and by how much it violates a constraint after each."""
    violations = [{LIMIT: amount} for amount in amounts]
    return StoredCurve((value,) * EPOCHS, violations, number=number, params={}, complete=True, is_default=number == 0)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/tuner.db"


@pytest.fixture(scope="module")
def whole(data: DataSpec, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    """A study that ran all its trials in full."""
    url = f"sqlite:///{tmp_path_factory.mktemp('whole')}/tuner.db"
    study = create_or_open(spec_for(data, url, "whole", pruner={"name": "none"}, budget={"trials": len(TOPS)}))
    run(study, TOPS)
    yield study
    study.close()


@pytest.mark.parametrize("name", ["none", "successive_halving", "promote", "median"])
def test_a_replay_does_what_the_study_itself_would_have_done(name: Any, whole: Study, begin: Begin, url: str) -> None:
    # Not Hyperband, whose brackets depend on the study's name.
    pruner = PrunerSpec(name=name)
    (found,) = replay_study(whole, [pruner]).outcomes
    real = begin(url, pruner=pruner, budget={"trials": len(TOPS)})
    run(real, TOPS)
    trials = real.trials()
    assert found.epochs == sum(trial.last_epoch for trial in trials)
    assert found.saved == pytest.approx(1 - found.epochs / (EPOCHS * len(TOPS)))
    best = real.best()
    assert best is not None
    assert found.best == best.value
    assert found.killed == {n: float(trials[n].state is not TrialState.COMPLETE) for n in (9, 11, 5)}
    if name == "none":
        assert (found.saved, found.to_best) == (0.0, 10 * EPOCHS)


def test_samplers_draw_every_stored_trial_once(whole: Study) -> None:
    samplers = [SamplerSpec(name=name) for name in ("tpe", "random", "cmaes")]
    replay = replay_study(whole, [PrunerSpec(name="none"), PrunerSpec(name="promote")], samplers, seeds=3)
    assert [(row.sampler, row.pruner.name, row.replays) for row in replay.outcomes[2:4]] == [
        ("tpe", "none", 3),
        ("tpe", "promote", 3),
    ]
    for row in replay.outcomes:
        assert row.best is not None
        if row.pruner.name == "none":
            assert (row.epochs, row.best, set(row.killed.values())) == (EPOCHS * len(TOPS), pytest.approx(0.7), {0.0})
            assert row.to_best is not None
        else:
            assert row.epochs < EPOCHS * len(TOPS)
    again = replay_study(whole, [PrunerSpec(name="none"), PrunerSpec(name="promote")], samplers, seeds=3)
    assert again == replay


@pytest.mark.parametrize("name", ["random", "tpe", "cmaes"])
def test_a_replayed_trial_has_the_parameters_of_its_stored_trial_alone(name: Any, begin: Begin, url: str) -> None:
    space = {
        "optimizer": {"type": "categorical", "choices": ["adamw", "sgd"]},
        "momentum": {"type": "float", "low": 0.8, "high": 0.95, "when": {"optimizer": "sgd"}},
    }
    study = begin(url, space=space, pruner={"name": "none"}, budget={"trials": len(TOPS)})
    run(study, TOPS)
    curves = stored_curves(study.trials(), EPOCHS, 1)
    draw, sampler, drawn = sampled(SamplerSpec(name=name), study.space, study.base, 0)(curves)
    (replayed, *_) = simulate(draw, sampler, PrunerSpec(name="none"), epochs=EPOCHS).trials
    trials = [trial for trial in replayed.trial.study.trials if trial.state.name == "COMPLETE"]
    assert [trial.params for trial in trials] == [curves[at].params for at in drawn]
    assert all(trial.distributions.keys() == trial.params.keys() for trial in trials)
    assert {len(trial.params) for trial in trials} == {1, 2}


def test_a_study_that_pruned_is_replayed_as_far_as_it_is_known(begin: Begin, url: str) -> None:
    study = begin(url, budget={"trials": len(TOPS)})
    run(study, TOPS)
    trained = sum(trial.last_epoch for trial in study.trials())
    replay = replay_study(study, [PrunerSpec(name="none"), PrunerSpec(name="promote")])
    assert replay.curves == len(TOPS)
    assert replay.complete == sum(trial.state is TrialState.COMPLETE for trial in study.trials()) < len(TOPS)
    assert [row.epochs for row in replay.outcomes] == [trained, trained]


def test_a_trial_that_still_runs_is_no_curve_that_ends_there(begin: Begin, url: str) -> None:
    study = begin(url, pruner={"name": "none"}, budget={"trials": 4})
    for value in (0.3, 0.5):
        assignment = study.next_trial(WORKER)
        assert assignment is not None
        train(study, assignment, value)
    for left in (False, True):
        running = study.next_trial(WORKER)
        assert running is not None
        study.report(running, result(1, 0.4))
        if left:
            study.interrupt(running)
    assert [one.number for one in stored_curves(study.trials(), EPOCHS, 1)] == [0, 1]
    assert replay_study(study, [PrunerSpec()]).curves == 2


def test_without_a_curve_of_the_default_config_no_trial_is_spared(
    begin: Begin, data: DataSpec, url: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """The default config fails before its first epoch, and the next trial is the worst: promotion leaves it paused."""
    tops = (0.0, 0.05, *TOPS[1:])
    spent = []
    for name in ("none", "promote"):
        study = create_or_open(spec_for(data, url, name, pruner={"name": name}, budget={"trials": len(tops)}))
        default = study.next_trial(WORKER)
        assert default is not None
        study.fail(default, FailureKind.ERROR, "a bug")
        run(study, tops)
        spent.append(sum(trial.last_epoch for trial in study.trials()))
        study.close()
    study = open_study("none", url)
    samplers = [SamplerSpec(name=name) for name in ("auto", "tpe", "random")]
    replay = replay_study(study, [PrunerSpec(name="none"), PrunerSpec(name="promote")], samplers, seeds=2)
    assert not replay.has_default
    assert [row.epochs for row in replay.outcomes[:2]] == spent
    assert all(row.saved > 0 for row in replay.outcomes if row.pruner.name == "promote")
    curves = stored_curves(study.trials(), EPOCHS, 1)
    draw, sampler, _ = in_order(curves)
    first = simulate(draw, sampler, PrunerSpec(name="promote"), epochs=EPOCHS, default=False).trials[0]
    assert (first.curve, first.stopped) == (curves[0], True)
    study.close()
    monkeypatch.setattr(sys, "argv", ["tuner", "replay", "none", "--pruner", "none", "--storage", url])
    with pytest.raises(SystemExit):
        main()
    assert "The default config has no curve" in capsys.readouterr().out


def test_the_default_config_is_spared_whatever_its_number(begin: Begin, url: str) -> None:
    """A point that another Optuna client queued before has the first number, though the default config runs first."""
    study = begin(url, pruner={"name": "none"}, budget={"trials": 6})
    client = optuna.load_study(study_name=study.name, storage=study.database.optuna)
    client.enqueue_trial({"learning_rate": 0.01})
    run(study, (0.6, 0.05, 0.5, 0.4, 0.3, 0.2))
    curves = stored_curves(study.trials(), EPOCHS, 1)
    assert [one.number for one in curves] == [1, 0, 2, 3, 4, 5]
    for order in (in_order, sampled(SamplerSpec(name="random"), study.space, study.base, 0)):
        draw, sampler, drawn = order(curves)
        first = simulate(draw, sampler, PrunerSpec(name="promote"), epochs=EPOCHS).trials[0]
        assert (drawn[0], first.stopped) == (0, False)
    assert replay_study(study, [PrunerSpec()]).has_default


def test_a_study_that_minimises_is_replayed_for_its_lowest_values(begin: Begin, url: str) -> None:
    study = begin(url, objective={"metric": "-1*map"}, pruner={"name": "none"}, budget={"trials": 6})
    run(study, TOPS)
    assert study.spec.objective.direction == "minimize"
    (found,) = replay_study(study, [PrunerSpec(name="none")]).outcomes
    best = study.best()
    assert best is not None
    assert found.best == best.value == pytest.approx(-0.6)
    assert list(found.killed) == [5, 1, 3]


def test_of_equal_trials_any_is_the_best() -> None:
    """Two reach 0.5; the one that the study ran first is drawn last."""
    first, late = (ended(number, 0.5) for number in (1, 2))
    worse = ended(0, 0.3)

    def make(curves: list[StoredCurve]) -> Any:
        order = iter((0, 2, 1))
        drawn: list[int] = []

        def draw(_: optuna.Trial) -> StoredCurve | None:
            if (at := next(order, None)) is None:
                return None
            drawn.append(at)
            return curves[at]

        return draw, in_order(curves)[1], drawn

    found = _outcome("by hand", PrunerSpec(name="none"), [worse, first, late], EPOCHS, [make])
    assert (found.best, found.to_best) == (0.5, 2 * EPOCHS)


@pytest.mark.parametrize("name", ["none", "promote"])
def test_a_replay_keeps_the_constraints_as_the_study_itself_would_have(name: Any, begin: Begin, url: str) -> None:
    """The best and the third best of twelve break one, known after each epoch: they rank behind at the rungs."""
    breaking = (9, 5)
    budget = {"trials": len(TOPS)}
    whole = begin(url, pruner={"name": "none"}, budget=budget, constraints=[LIMIT])
    run(whole, TOPS, breaking)
    replay = replay_study(whole, [PrunerSpec(name=name)])
    (found,) = replay.outcomes
    real = begin(url.replace("tuner.db", "real.db"), pruner={"name": name}, budget=budget, constraints=[LIMIT])
    run(real, TOPS, breaking)
    trials, best = real.trials(), real.best()
    assert best is not None
    assert (replay.complete, replay.feasible, found.best) == (12, 10, best.value)
    assert found.epochs == sum(trial.last_epoch for trial in trials)
    assert found.killed == {n: float(trials[n].state is not TrialState.COMPLETE) for n in (11, 6, 1)}


def test_a_replayed_sampler_is_told_what_trials_violate() -> None:
    """One that is paused violates as much as after its third epoch, and one that ended as much as after all."""
    curves = [ended(0, 0.5, range(EPOCHS)), ended(1, 0.3, range(-EPOCHS, 0)), ended(2, 0.2, range(EPOCHS))]
    draw, _, drawn = in_order(curves)
    seen: list[list[dict[str, float]]] = []

    class Looking(optuna.samplers.RandomSampler):
        def before_trial(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
            seen.append([one.constraints for one in study.get_trials(deepcopy=False)])

    done = simulate(draw, lambda _: Looking(), PrunerSpec(name="promote", first_rung=3), epochs=EPOCHS)
    assert drawn == [0, 1, 2]
    assert seen[-1][:3] == [{LIMIT: 2.0}, {LIMIT: -7.0}, {LIMIT: 2.0}]
    told = [one.constraints for one in done.trials[0].trial.study.get_trials()]
    assert told[:3] == [{LIMIT: EPOCHS - 1}, {LIMIT: -1.0}, {}]  # the last is left paused


@pytest.mark.parametrize("failed", [True, False])
def test_a_trial_that_failed_at_a_rung_leaves_its_place_there(begin: Begin, url: str, failed: bool) -> None:
    """The best of six at the rung ends there, by itself or since the study trained it no further; two may go on."""
    study = begin(url, pruner={"name": "none"}, budget={"trials": 6})
    for number, top in enumerate((0.1, 0.9, 0.8, 0.7, 0.2, 0.15)):
        assignment = study.next_trial(WORKER)
        assert assignment is not None
        train(study, assignment, top, epochs=3 if number == 1 else EPOCHS)
        if number == 1 and failed:
            study.fail(assignment, FailureKind.OUT_OF_MEMORY, "not even one image fits")
        elif number == 1:
            study.stop_early(assignment)
    draw, sampler, _ = in_order(stored_curves(study.trials(), EPOCHS, 1))
    done = simulate(draw, sampler, PrunerSpec(name="promote", first_rung=3), epochs=EPOCHS)
    assert [one.epochs for one in done.trials] == [9, 3, 9, 9 if failed else 3, 3, 3]
    told = done.trials[1].trial.study.get_trials()[1]
    assert (told.state.name, told.constraints) == ("PRUNED", {"memory": 1.0} if failed else {})


def test_where_no_trial_keeps_the_constraints_none_is_good(
    begin: Begin, url: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    study = begin(url, pruner={"name": "none"}, budget={"trials": 3}, constraints=[LIMIT])
    run(study, (0.3, 0.4, 0.5), breaking=(0, 1, 2))
    (found,) = replay_study(study, [PrunerSpec(name="none")]).outcomes
    assert (found.killed, found.best, found.to_best) == ({}, None, None)
    monkeypatch.setattr(sys, "argv", ["tuner", "replay", study.name, "--storage", url, "--pruner", "none"])
    with pytest.raises(SystemExit, match="0"):
        main()
    assert "No complete trial keeps the constraints: none is good, and none the best." in capsys.readouterr().out


def test_trials_that_all_end_alike_say_nothing_of_epochs(
    begin: Begin, url: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    study = begin(url, pruner={"name": "none"}, budget={"trials": 3})
    run(study, (0.5, 0.5, 0.5))
    monkeypatch.setattr(sys, "argv", ["tuner", "replay", study.name, "--storage", url, "--pruner", "none"])
    with pytest.raises(SystemExit, match="0"):
        main()
    assert "first rung: none to advise, since all complete trials ended with the same value" in capsys.readouterr().out


def test_an_objective_at_the_operating_point_is_replayed_where_each_epoch_has_one(begin: Begin, url: str) -> None:
    study = begin(url, objective={"metric": "f1"}, pruner={"name": "none"}, budget={"trials": 2})
    for f1 in (0.3, 0.7):
        assignment = study.next_trial(WORKER)
        assert assignment is not None
        for epoch in range(1, EPOCHS + 1):
            here = operating_point(f1=f1 * epoch / EPOCHS)
            found = result(epoch, 0.5)
            study.report(assignment, replace(found, metrics=found.metrics.model_copy(update={"operating_point": here})))
        study.complete(assignment)
    replayed = replay_study(study, [PrunerSpec(name="none")])
    assert replayed.outcomes[0].best == pytest.approx(0.7)


def test_an_objective_that_is_known_at_the_end_has_no_curves(begin: Begin, url: str) -> None:
    study = begin(url, objective={"metric": "f1"}, budget={"trials": 3})
    run(study, TOPS)
    with pytest.raises(StudyError, match="its trainer gave f1 after the last epoch of a trial only"):
        replay_study(study, [PrunerSpec()])


def test_two_complete_trials_are_needed(begin: Begin, url: str) -> None:
    study = begin(url)
    first = study.next_trial(WORKER)
    assert first is not None
    train(study, first, 0.5)
    with pytest.raises(StudyError, match="has 1 complete trials; a replay needs two"):
        replay_study(study, [PrunerSpec()])


def test_the_command(whole: Study, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("COLUMNS", "200")

    def tuner(*arguments: str) -> int:
        monkeypatch.setattr(
            sys, "argv", ["tuner", "replay", whole.name, "--storage", str(whole.spec.storage), *arguments]
        )
        try:
            main()
        except SystemExit as ended:
            return int(ended.code or 0)
        return 0

    assert tuner("--pruner", "median", "--sampler", "random", "--seeds", "2", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["complete"], len(found["correlations"]), found["correlations"][-1]) == (len(TOPS), EPOCHS, 1.0)
    assert [(row["sampler"], row["pruner"]["name"]) for row in found["outcomes"]] == [
        ("as run", "median"),
        ("random", "median"),
    ]
    assert tuner() == 0
    said = capsys.readouterr().out
    assert "12 trials with curves, 12 of them complete" in said
    assert "has no curve" not in said
    assert "successive_halving" in said
    assert "from 12 complete trials, 0.80 may be 0.33 to 0.95 in truth (95 %); take what follows for a hint" in said
    assert tuner("--pruner", "medium") == 1
    assert "Did you mean 'median'?" in capsys.readouterr().err
    assert tuner("--sampler", "grid") == 1
