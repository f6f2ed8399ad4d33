"""The rule by which paused trials go on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tuner.studies.search.promotion import NOBODY, Entrant, beyond_hope, goes_on, next_promotion, rungs_of

# A curve has a value for each of up to four rungs; ties are likely.
CURVES = st.lists(st.lists(st.integers(0, 6), min_size=3, max_size=3), min_size=1, max_size=20)
RUNGS = (1, 3, 9)


def run(
    curves: list[list[int]],
    factor: int,
    watch: Callable[[list[Entrant], int], None],
    rungs: tuple[int, ...] = RUNGS,
    begun: Sequence[Entrant] = (),
) -> list[Entrant]:
    """One worker trains these trials by the rule until nothing is left to do; `watch` sees each step."""
    trials = list(begun)

    def train(index: int) -> None:
        while True:
            trial = trials[index]
            rung = rungs[len(trial.values)] if len(trial.values) < len(rungs) else None
            if rung is None:
                trials[index] = replace(trial, state="complete")
                return
            trials[index] = replace(trial, values={**trial.values, rung: float(curves[index][RUNGS.index(rung)])})
            if not goes_on(trials, index, rung, factor):
                trials[index] = replace(trials[index], state="paused")
                return

    while True:
        watch(trials, len(curves) - len(trials))
        more = len(trials) < len(curves)
        index = next_promotion(trials, rungs, factor, more=more, closing=not more)
        if index is not None:
            trials[index] = replace(trials[index], state="active")
        elif len(trials) < len(curves):
            index = len(trials)
            trials.append(Entrant(index, {}, "active", is_default=index == 0))
        else:
            return trials
        train(index)


@given(CURVES, st.integers(2, 4))
def test_in_the_end_just_the_best_of_each_rung_went_on(curves: list[list[int]], factor: int) -> None:
    trials = run(curves, factor, lambda *_: None)
    complete = [trial.number for trial in trials if trial.state == "complete"]
    assert 0 in complete  # the default config
    assert len(complete) > 1 or len(trials) == 1  # and one to compare with it
    for trial in trials:
        reached = max(trial.values)
        order = sorted((-t.values[reached], t.number) for t in trials if reached in t.values)
        place = order.index((-trial.values[reached], trial.number))
        assert trial.state == "complete" or place >= len(order) // factor
    # If early epochs told all, the best trial would be among the complete ones.
    if all(len(set(curve)) == 1 for curve in curves):
        best = max(range(len(curves)), key=lambda number: (curves[number][0], -number))
        assert trials[best].state == "complete"


@given(CURVES, st.integers(2, 4))
def test_a_trial_beyond_hope_never_goes_on(curves: list[list[int]], factor: int) -> None:
    given_up: dict[int, Entrant] = {}

    def watch(trials: list[Entrant], to_come: int) -> None:
        lost = beyond_hope(trials, RUNGS, factor, to_come)
        for number in lost:
            given_up.setdefault(number, trials[number])
        assert set(given_up) <= lost  # once beyond hope, always so
        assert all(trials[number] == then for number, then in given_up.items())
        assert not beyond_hope(trials, RUNGS, factor, None)

    run(curves, factor, watch)


@given(CURVES, st.integers(2, 4), st.integers(0, 60), st.integers(1, 3))
def test_a_study_whose_rungs_change_ends_like_any_other(
    curves: list[list[int]], factor: int, steps: int, later: int
) -> None:
    """After some steps of one worker the first rungs are no rungs any more, even all of them."""
    seen: list[list[Entrant]] = []
    run(curves, factor, lambda trials, _: seen.append(list(trials)))
    rungs = RUNGS[later:]
    begun = [
        replace(trial, values={rung: value for rung, value in trial.values.items() if rung in rungs})
        for trial in seen[min(steps, len(seen) - 1)]
    ]
    trials = run(curves, factor, lambda *_: None, rungs, begun)
    assert len(trials) == len(curves)
    assert trials[0].state == "complete"  # the default config
    assert sum(trial.state == "complete" for trial in trials) > 1 or len(trials) == 1
    assert all(trial.values for trial in trials if rungs)


def test_where_nothing_is_promoted_what_was_not_judged_goes_on_only_for_want_of_a_complete_trial() -> None:
    trials = [Entrant(0, {}, "paused", is_default=True), Entrant(1, {}, "paused"), Entrant(2, {3: 1.0}, "paused")]
    assert next_promotion(trials, (3,), 3) == 0
    assert next_promotion(trials, (3,), NOBODY, more=False, closing=True) == 2
    trials[2] = replace(trials[2], state="complete")
    assert next_promotion(trials, (3,), NOBODY, more=False, closing=True) == 0
    trials[0] = replace(trials[0], state="complete")
    assert next_promotion(trials, (3,), NOBODY, more=False, closing=True) is None
    assert next_promotion(trials[:2], (3,), NOBODY, more=False, closing=True) == 1


def test_a_trial_that_met_strong_company_goes_on_later() -> None:
    trials = [Entrant(n, {1: float(v)}, "paused") for n, v in enumerate((9, 8, 7, 1, 2))]
    trials[0] = Entrant(0, {1: 9.0, 3: 9.0}, "stopped")
    trials += [Entrant(n, {1: 3.0}, "paused") for n in (5, 6)]
    assert next_promotion(trials, RUNGS, 3) is None  # two of seven, but the eighth may be better
    assert next_promotion(trials, RUNGS, 3, more=False) == 1  # unless there is none
    trials.append(Entrant(7, {1: 3.0}, "paused"))
    assert next_promotion(trials, RUNGS, 3) == 1  # three of nine, if the ninth is better
    trials[1] = Entrant(1, {1: 8.0, 3: 10.0}, "paused")
    assert next_promotion(trials, RUNGS, 3) is None  # one of two is none of three


def test_a_trial_that_ended_at_a_rung_leaves_its_place_there() -> None:
    trials = [Entrant(n, {1: float(9 - n)}, "left") for n in range(4)] + [Entrant(4, {1: 0.0}, "paused")]
    assert goes_on(trials, 4, 1, 3)
    assert next_promotion(trials, RUNGS, 3) == 4  # one of five, and the four before it have ended
    trials[0] = Entrant(0, {1: 9.0, 3: 9.0}, "left")  # it has had the place of one of five
    assert next_promotion(trials, RUNGS, 3) is None


def test_the_default_config_goes_on_once_another_trial_is_complete() -> None:
    trials = [Entrant(0, {1: 1.0}, "paused", is_default=True), Entrant(1, {1: 9.0}, "active")]
    assert next_promotion(trials, RUNGS, 3) is None
    trials[1] = replace(trials[1], state="complete")
    assert next_promotion(trials, RUNGS, 3) == 0
    assert goes_on(trials, 0, 1, 3)


def test_the_default_config_does_not_wait_to_see_whether_the_next_trial_is_better() -> None:
    trials = [Entrant(n, {1: float(9 - n)}, "paused", is_default=n == 0) for n in range(3)]
    assert next_promotion(trials, RUNGS, 3) == 0
    assert goes_on(trials, 0, 1, 3)
    trials = [replace(trial, is_default=trial.number == 1) for trial in trials]  # the second of three
    assert next_promotion(trials, RUNGS, 3) is None
    assert not any(goes_on(trials, number, 1, 3) for number in range(3))


def test_a_trial_that_breaks_a_constraint_ranks_behind_all_that_do_not() -> None:
    broken = frozenset({1})
    trials = [Entrant(n, {1: float(9 - n)}, "paused", broken=broken) for n in range(4)]
    trials += [Entrant(n, {1: float(9 - n)}, "paused") for n in (4, 5)]
    assert next_promotion(trials, RUNGS, 3, more=False) == 4
    assert goes_on([*trials, Entrant(6, {1: 9.0}, "paused", broken=broken)], 4, 1, 3)
    assert not goes_on([*trials, Entrant(6, {1: 9.0}, "paused", broken=broken)], 6, 1, 3)
    assert beyond_hope(trials, RUNGS, 3, 0) == {0, 1, 2, 3}
    assert next_promotion(trials[:3], RUNGS, 3, more=False) == 0  # where all do, the best of them goes on


def test_a_study_closes_with_a_complete_trial() -> None:
    trials = [Entrant(0, {1: 1.0}, "paused", is_default=True), Entrant(1, {1: 9.0}, "paused")]
    assert next_promotion(trials, RUNGS, 3) is None
    assert next_promotion(trials, RUNGS, 3, closing=True) == 1
    trials[1] = replace(trials[1], state="complete")
    assert next_promotion(trials, RUNGS, 3, closing=True) == 0


def test_slots_complete_the_best_trial_and_the_default_config_at_the_same_time() -> None:
    trials = [Entrant(n, {1: 1.0, 3: float(n % 5)}, "paused", is_default=n == 0) for n in range(6)]
    begun = []
    while (number := next_promotion(trials, (1, 3), 9, closing=True)) is not None:
        trials[number] = replace(trials[number], state="active")
        begun.append(number)
    assert begun == [4, 0]


def test_without_rungs_nothing_waits() -> None:
    assert next_promotion([Entrant(0, {}, "active")], (), 3, more=False, closing=True) is None


def test_a_default_config_that_is_the_best_is_not_the_only_complete_trial() -> None:
    trials = [Entrant(0, {1: 9.0, 3: 9.0}, "complete", is_default=True), Entrant(1, {1: 1.0}, "paused")]
    assert beyond_hope(trials, RUNGS, 3, 0) == set()
    assert next_promotion(trials, RUNGS, 3) is None
    assert next_promotion(trials, RUNGS, 3, closing=True) == 1


def test_rungs() -> None:
    assert rungs_of(1, 3, 18) == (1, 3, 9)
    assert rungs_of(1, 3, 17) == (1, 3)  # nine is more than half
    assert rungs_of(3, 2, 12) == (3, 6)
    assert rungs_of(8, 3, 9) == (8,)  # as the user says
    assert rungs_of(3, 2, 3) == ()
