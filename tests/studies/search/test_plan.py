"""Plans for a number of hours: never over, never less for more."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.config.errors import ConfigError
from tuner.config.study import DataSpec, PlanSpec, PrunerSpec, StudySpec
from tuner.studies.search.plan import (
    FEWEST_TRIALS,
    USABLE,
    begin_until,
    confirmation_epochs,
    confirmation_for,
    expected_epochs,
    make_plan,
)
from tuner.studies.search.promotion import Entrant, first_rung, goes_on, next_promotion, rungs_of

PROMOTE = PrunerSpec(name="promote")
PRUNERS = st.sampled_from(["promote", "successive_halving", "hyperband", "median", "none"]).map(
    lambda name: PrunerSpec(name=name)
)
SIZE = ("epochs", "trials", "top", "seeds")


def plan(epoch_seconds: float, hours: float, slots: int, pruner: PrunerSpec, wanted: int) -> PlanSpec | None:
    try:
        return make_plan(epoch_seconds, hours, slots, pruner, wanted)
    except ConfigError:
        return None


@given(
    st.floats(0.1, 2000), st.floats(0.01, 200), st.floats(1, 20), st.integers(1, 16), st.integers(0, 8), PRUNERS,
    st.integers(1, 120),
)  # fmt: skip
def test_no_plan_is_over_its_hours_and_more_hours_or_slots_never_bring_less(
    epoch_seconds: float, hours: float, times: float, slots: int, further: int, pruner: PrunerSpec, wanted: int
) -> None:
    small = plan(epoch_seconds, hours, slots, pruner, wanted)
    large = plan(epoch_seconds, hours * times, slots + further, pruner, wanted)
    if small is None:
        return
    assert large is not None
    assert small.search_seconds + small.confirm_seconds <= 3600 * hours
    assert all(getattr(large, name) >= getattr(small, name) for name in SIZE)
    assert small.epochs >= min(wanted, 8)
    assert small.trials >= 9
    assert small.seeds >= 2
    assert small.first_rung <= small.epochs


def test_time_beyond_the_wanted_epochs_goes_into_trials_first() -> None:
    found = [make_plan(10, hours, 4, PROMOTE, 30) for hours in (0.4, 1, 4, 100)]
    assert [one.epochs for one in found] == sorted(one.epochs for one in found)
    assert found[0].epochs < 30
    assert found[1].epochs == 30
    assert found[1].trials > 30
    assert found[3].epochs == 90
    assert (found[3].top, found[3].seeds) == (5, 3)


def test_too_little_time_says_what_it_would_take() -> None:
    with pytest.raises(ConfigError, match="hours are too little") as error:
        make_plan(600, 1, 1, PROMOTE, 50)
    needed = float(error.value.message.split()[-2])
    assert make_plan(600, needed, 1, PROMOTE, 50).trials >= FEWEST_TRIALS
    with pytest.raises(ConfigError, match="hours are too little"):
        make_plan(600, needed - 0.1, 1, PROMOTE, 50)


def test_what_the_user_fixes_stays() -> None:
    found = make_plan(10, 4, 2, PROMOTE, 30, epochs=20, trials=12)
    assert (found.epochs, found.trials) == (20, 12)


@pytest.mark.parametrize(("epochs", "trials"), [(10, 12), (30, 30), (52, 60), (9, 9), (100, 90)])
def test_a_search_with_promotion_trains_about_the_expected_epochs(epochs: int, trials: int) -> None:
    rungs = rungs_of(first_rung(PROMOTE, epochs), 3, epochs)
    entrants: list[Entrant] = []
    reached: list[int] = []

    def train(index: int) -> None:
        for rung in (*[rung for rung in rungs if rung > reached[index]], epochs):
            reached[index] = rung
            if rung == epochs:
                entrants[index] = Entrant(index, entrants[index].values, "complete", is_default=index == 0)
                return
            # Curves that keep their order, in an order of trials that has no trend.
            values = {**entrants[index].values, rung: (index * 37 % 101) / 101}
            entrants[index] = Entrant(index, values, "paused", is_default=index == 0)
            if not goes_on(entrants, index, rung, 3):
                return

    while True:
        more = len(entrants) < trials
        index = next_promotion(entrants, rungs, 3, more=more, closing=not more)
        if index is None:
            if len(entrants) == trials:
                break
            index = len(entrants)
            entrants.append(Entrant(index, {}, "active", is_default=index == 0))
            reached.append(0)
        train(index)
    assert sum(reached) == pytest.approx(expected_epochs(PROMOTE, epochs, trials), rel=0.25)


def test_time_is_kept_for_what_must_be_finished_and_confirmed() -> None:
    plan = make_plan(10.0, 4, 1, PROMOTE, 30)
    spec = StudySpec(name="s", data=DataSpec(train=Path("t"), val=Path("v")), plan=plan)
    rest = 4 * 3600 - plan.confirm_seconds
    # On one slot the best trial and the default config go on one after the other, from the first rung at worst.
    assert begin_until(spec, plan, 10) == pytest.approx(rest - 2 * (plan.epochs - plan.first_rung) * 10)
    two = plan.model_copy(update={"slots": 2})
    assert begin_until(spec, two, 10) == pytest.approx(rest - (plan.epochs - plan.first_rung) * 10)
    assert begin_until(spec, plan, 20) < begin_until(spec, plan, 10)  # slower than planned
    assert begin_until(spec, plan, 1e6) == 0


@pytest.mark.parametrize("slots", [1, 2, 4])
@pytest.mark.parametrize("hours", [2, 4, 16])
def test_epochs_that_become_slower_than_planned_leave_time_to_confirm(hours: float, slots: int) -> None:
    plan = make_plan(10.0, hours, slots, PROMOTE, 30)
    spec = StudySpec(name="s", data=DataSpec(train=Path("t"), val=Path("v")), plan=plan)
    for slower in (1.2, 2, 3, 5):
        begun = begin_until(spec, plan, slower * 10)
        finished = begun + -(-2 // slots) * (plan.epochs - plan.first_rung) * slower * 10
        left = USABLE * (hours * 3600 - finished) + 1e-6
        if begun > 0:  # else it was too late from the first moment on
            assert confirmation_for(left, slower * 10, plan.epochs, slots, plan.top, plan.seeds) is not None


def test_the_confirmation_shrinks_with_the_time_that_is_left() -> None:
    full = confirmation_epochs(3, 3, 20, 2) * 5.0
    assert confirmation_for(full, 5.0, 20, 2, 3, 3) == (3, 3)
    assert confirmation_for(full - 1, 5.0, 20, 2, 3, 3) in [(2, 3), (3, 2)]
    assert confirmation_for(2 * 20 * 5.0, 5.0, 20, 2, 3, 3) == (1, 2)
    assert confirmation_for(2 * 20 * 5.0 - 1, 5.0, 20, 2, 3, 3) is None
