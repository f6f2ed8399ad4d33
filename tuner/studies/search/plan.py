"""How much search a number of hours pays for, as pure functions: epochs per trial, trials, and what is confirmed.

Plans stand in one line, from the smallest study worth running to the largest. First, epochs per trial, trials and what
is confirmed grow together, up to the wanted epochs. Then trials are added, and last, epochs. The plan for some hours is
the last one before the first that does not fit. So more hours or slots never bring less, and no plan is longer than its
hours.

A search costs what its pruner lets run: by successive halving, with or without promotion, all trials reach the first
rung, one of `reduction_factor` the next, and so on (Li et al., "A System for Massively Parallel Hyperparameter Tuning",
MLSys 2020).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from tuner.config.errors import ConfigError
from tuner.config.study import PlanSpec, PrunerSpec, StudySpec
from tuner.studies.search.promotion import REDUCTION_FACTOR, first_rung, rungs_of

USABLE = 0.9
"""Share of the time that is planned; the rest is for starts, and for configs that are slower than the default."""
FEWEST_EPOCHS = 8
FEWEST_TRIALS = 9
TRIALS = 30
MOST_TRIALS = 200
"""From there on more epochs bring more than more trials."""
LONGEST = 3
"""Times the wanted epochs that a trial may have at most."""
_SHARES = {"hyperband": 0.5, "median": 0.5, "percentile": 0.5, "patient": 0.6, "none": 1.0}
"""Roughly, of the epochs that the trials would have without a pruner."""


def make_plan(
    epoch_seconds: float,
    hours: float,
    slots: int,
    pruner: PrunerSpec,
    wanted: int,
    *,
    epochs: int | None = None,
    trials: int | None = None,
) -> PlanSpec:
    """Lay out a study that ends in time, its confirmation included.

    Args:
        epoch_seconds: What an epoch of the default config takes while all slots work.
        hours: Wall time for everything.
        slots: Trials at the same time.
        pruner: The study's.
        wanted: Epochs that a trial should have.
        epochs: Epochs that a trial must have; None: what fits.
        trials: Trials that there must be; None: what fits.

    Raises:
        ConfigError: Not even the smallest plan fits; says what it would take.
    """
    best = None
    for plan in _line(epoch_seconds, hours, slots, pruner, wanted, epochs, trials):
        if plan.search_seconds + plan.confirm_seconds > USABLE * hours * 3600:
            if best is None:
                raise _too_little(plan)
            break
        best = plan
    assert best is not None
    return best


def expected_epochs(pruner: PrunerSpec, epochs: int, trials: int) -> float:
    """Epochs that a study will train: the default config in full, and what the pruner lets run of the others."""
    others = trials - 1
    if pruner.name in _SHARES:
        return epochs * (1 + _SHARES[pruner.name] * others)
    factor = pruner.reduction_factor or REDUCTION_FACTOR
    rungs = rungs_of(first_rung(pruner, epochs), factor, epochs)
    reached, left, before = 0.0, float(others), 0
    for rung in rungs:
        reached += left * (rung - before)
        left, before = left / factor, rung
    complete = max(left, min(1, others))
    return epochs + reached + complete * (epochs - before)


def closing_epochs(pruner: PrunerSpec, epochs: int) -> int:
    """Epochs that a trial may still take which is the last that must be finished."""
    return epochs if pruner.name == "none" else epochs - min(epochs, first_rung(pruner, epochs))


def begin_until(spec: StudySpec, plan: PlanSpec, epoch_seconds: float) -> float:
    """Seconds of a planned study in which trials may begin, so that what must be finished and confirmed fits, too.

    Where trials pause, two must be finished: the best, and the default config, without which there is no gain to state.
    Where epochs take longer than was planned, the confirmation shrinks in the time that is kept for it, but the
    smallest one always fits.

    Args:
        spec: The study.
        plan: Its plan.
        epoch_seconds: What an epoch really takes. Where that is more than was planned, trials begin for less long.
    """
    rounds = math.ceil(2 / plan.slots) if spec.pruner.name == "promote" else 1
    closing = rounds * closing_epochs(spec.pruner, plan.epochs) * epoch_seconds
    kept = max(plan.confirm_seconds, least_confirmation(plan, epoch_seconds))
    return max(0.0, plan.hours * 3600 - kept - closing)


def least_confirmation(plan: PlanSpec, epoch_seconds: float) -> float:
    """Seconds in which `confirmation_for`, asked with the share of them that is planned, finds room for one config."""
    return confirmation_epochs(1, 2, plan.epochs, plan.slots) * epoch_seconds / USABLE


def confirmation_epochs(top: int, seeds: int, epochs: int, slots: int) -> int:
    """Epochs, one after the other, that confirming takes: so many configs and the default, in full with each seed."""
    return math.ceil((top + 1) * seeds / slots) * epochs


def confirmation_for(
    seconds: float, epoch_seconds: float, epochs: int, slots: int, top: int, seeds: int
) -> tuple[int, int] | None:
    """How many configs and seeds can be confirmed in the time that is left, at most so many; None: not even one.

    Most runs first; among equals, more seeds.
    """
    sizes = sorted(
        ((k, s) for k in range(1, top + 1) for s in range(2, seeds + 1)),
        key=lambda size: (-(size[0] + 1) * size[1], -size[1]),
    )
    fits = (size for size in sizes if confirmation_epochs(*size, epochs, slots) * epoch_seconds <= seconds)
    return next(fits, None)


def _line(
    epoch_seconds: float,
    hours: float,
    slots: int,
    pruner: PrunerSpec,
    wanted: int,
    epochs: int | None,
    trials: int | None,
) -> Iterator[PlanSpec]:
    for length, count, top, seeds in _sizes(wanted, epochs, trials):
        spent = expected_epochs(pruner, length, count)
        idle = closing_epochs(pruner, length) * (1 - 1 / slots)  # the last trial runs while other slots wait
        yield PlanSpec(
            hours=hours,
            slots=slots,
            epoch_seconds=epoch_seconds,
            epochs=length,
            trials=count,
            first_rung=length if pruner.name == "none" else min(length, first_rung(pruner, length)),
            reduction_factor=None if pruner.name in _SHARES else pruner.reduction_factor or REDUCTION_FACTOR,
            top=top,
            seeds=seeds,
            search_epochs=round(spent),
            search_seconds=(spent / slots + idle) * epoch_seconds,
            confirm_seconds=confirmation_epochs(top, seeds, length, slots) * epoch_seconds,
        )


def _sizes(wanted: int, epochs: int | None, trials: int | None) -> Iterator[tuple[int, int, int, int]]:
    """Epochs per trial, trials, confirmed configs and seeds, from the smallest study to the largest."""
    fewest = min(wanted, max(FEWEST_EPOCHS, math.ceil(wanted / 3)))
    steps = TRIALS - FEWEST_TRIALS
    found = [
        (
            fewest + (wanted - fewest) * step // steps,
            FEWEST_TRIALS + step,
            1 + 2 * step // steps,
            2 + (2 * step >= steps),
        )
        for step in range(steps + 1)
    ]
    found += [(wanted, count, min(5, max(3, count // 20)), 3) for count in range(TRIALS + 1, MOST_TRIALS + 1)]
    found += [(length, MOST_TRIALS, 5, 3) for length in range(wanted + 1, LONGEST * wanted + 1)]
    last = None
    for length, count, top, seeds in found:
        count = trials or count
        size = (epochs or length, count, max(1, min(top, count - 1)), seeds)
        if size != last:
            yield size
        last = size


def _too_little(plan: PlanSpec) -> ConfigError:
    needed = (plan.search_seconds + plan.confirm_seconds) / USABLE / 3600
    return ConfigError(
        f"{plan.hours:g} hours are too little: an epoch takes {plan.epoch_seconds:.3g} s, with "
        f"{plan.slots} trial{'s' if plan.slots > 1 else ''} at the same time, so the smallest study ({plan.trials} "
        f"trials of up to {plan.epochs} epochs, the best of them confirmed with {plan.seeds} seeds) takes "
        f"{math.ceil(needed * 100) / 100:g} hours",
        hint="Give it more time or more devices, or make epochs shorter by a smaller model or image size.",
    )
