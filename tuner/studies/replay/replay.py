"""Samplers and pruners run again on the learning curves that a study has stored.

What is replayed is what is known: a trial that the study itself pruned goes as far as its curve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tuner.config.errors import StudyError
from tuner.config.study import PrunerSpec, SamplerSpec
from tuner.studies.replay.correlation import TRUSTED, correlation_interval, rank_correlations, trusted_from
from tuner.studies.replay.simulate import Simulation, simulate
from tuner.studies.replay.stored_curves import Order, StoredCurve, in_order, sampled, stored_curves
from tuner.studies.search.pruners import build_pruner
from tuner.studies.state.records import TrialState
from tuner.studies.study import Study

GOOD = 3
"""So many of the best trials that are complete and keep the constraints are good, at most half of all such trials."""
_AS_RUN = "as run"


@dataclass(frozen=True)
class Outcome:
    """What one sampler with one pruner would have done; means where it was replayed several times.

    Attributes:
        sampler: Its name, or "as run": the order in which the study ran its trials.
        pruner: The pruner.
        replays: How often it was replayed, each with another seed.
        epochs: Epochs trained.
        saved: Share of the known epochs that were not trained.
        killed: For each good trial, the share of replays in which it was stopped or paused for good.
        best: Best value of a trial that was trained to its last epoch and keeps the constraints; None where none was.
        to_best: Epochs until the study's best trial, or one as good, was complete, over the replays where it was; None
            where it never was, or none keeps the constraints.
    """

    sampler: str
    pruner: PrunerSpec
    replays: int
    epochs: float
    saved: float
    killed: dict[int, float]
    best: float | None
    to_best: float | None


@dataclass(frozen=True)
class Replay:
    """What a study's stored curves say.

    Attributes:
        epochs: Full length of a trial.
        curves: Trials with at least one epoch.
        complete: How many of them have all epochs.
        feasible: How many of these keep the constraints: among them are the good and the best ones.
        has_default: Whether the default config has a curve, which no pruner ends.
        correlations: For each epoch, Spearman's rank correlation with the last over the complete trials; None
            where all values are equal.
        first_rung: The epoch from which it stays at `TRUSTED` or above, which is a fair first rung.
        doubt: Between what (95 %) a correlation of `TRUSTED` may lie in truth, measured on so few trials; None where
            they are too few to say.
        outcomes: Of each sampler with each pruner.
    """

    epochs: int
    curves: int
    complete: int
    feasible: int
    has_default: bool
    correlations: list[float | None]
    first_rung: int
    doubt: tuple[float, float] | None
    outcomes: list[Outcome]


def replay_study(
    study: Study, pruners: Sequence[PrunerSpec], samplers: Sequence[SamplerSpec] = (), *, seeds: int = 20
) -> Replay:
    """Replay a study.

    Args:
        study: It needs two complete trials at least.
        pruners: What to try.
        samplers: What to try beside the order in which the trials were run.
        seeds: Replays of each sampler with each pruner.

    Raises:
        StudyError: Fewer than two trials are complete, or the trainer gave the objective after the last epoch only.
        ConfigError: A pruner or sampler has an option that it has no use for, or the first rung lies beyond the end.
    """
    objective = study.spec.objective
    trials = study.trials()
    curves = stored_curves(trials, study.base.epochs, objective.sign, study.spec.constraints)
    complete = [curve for curve in curves if curve.complete]
    if not complete and any(trial.state is TrialState.COMPLETE for trial in trials):
        raise StudyError(
            f"study {study.name!r} has no curves to replay: its trainer gave {objective.metric} after the last epoch "
            "of a trial only"
        )
    if len(complete) < 2:
        raise StudyError(
            f"study {study.name!r} has {len(complete)} complete trials; a replay needs two at least",
            hint="Let it run on: `tuner run` with its study file.",
        )
    for pruner in pruners:
        build_pruner(pruner, study.base.epochs)
    correlations = rank_correlations([curve.values for curve in complete])
    outcomes = [_outcome(_AS_RUN, pruner, curves, study.base.epochs, [in_order]) for pruner in pruners]
    for spec in samplers:
        for pruner in pruners:
            tries = [sampled(spec, study.space, study.base, seed) for seed in range(seeds)]
            outcomes.append(_outcome(spec.name, pruner, curves, study.base.epochs, tries))
    if objective.sign < 0:
        outcomes = [replace(one, best=None if one.best is None else -one.best) for one in outcomes]
    return Replay(
        epochs=study.base.epochs,
        curves=len(curves),
        complete=len(complete),
        feasible=sum(curve.feasible for curve in curves),
        has_default=curves[0].is_default,
        correlations=correlations,
        first_rung=trusted_from(correlations),
        doubt=correlation_interval(TRUSTED, len(complete)),
        outcomes=outcomes,
    )


def _outcome(
    sampler: str, pruner: PrunerSpec, curves: list[StoredCurve], epochs: int, tries: Sequence[Order]
) -> Outcome:
    known = sum(len(curve.values) for curve in curves)
    ranked = sorted((curve for curve in curves if curve.feasible), key=lambda c: (-c.values[-1], c.number))
    good = [curve.number for curve in ranked[: min(GOOD, max(1, len(ranked) // 2))]]
    best = {curve.number for curve in ranked if curve.values[-1] == ranked[0].values[-1]}
    spent, bests, to_best = [], [], []
    stopped = dict.fromkeys(good, 0)
    for make in tries:
        draw, build, drawn = make(curves)
        done = simulate(draw, build, pruner, epochs=epochs, default=curves[0].is_default)
        spent.append(len(done.order))
        finished = {curves[at].number: trial for at, trial in zip(drawn, done.trials, strict=True) if not trial.stopped}
        for number in good:
            stopped[number] += number not in finished
        bests += [curve.values[-1] for curve in ranked if curve.number in finished][:1]
        numbers = [curves[at].number for at in drawn]
        ends = [_epochs_until_complete(done, numbers.index(number)) for number in best & finished.keys()]
        to_best += [min(ends)] if ends else []
    return Outcome(
        sampler=sampler,
        pruner=pruner,
        replays=len(tries),
        epochs=float(np.mean(spent)),
        saved=1 - float(np.mean(spent)) / known,
        killed={number: times / len(tries) for number, times in stopped.items()},
        best=float(np.mean(bests)) if bests else None,
        to_best=float(np.mean(to_best)) if to_best else None,
    )


def _epochs_until_complete(done: Simulation, index: int) -> int:
    return len(done.order) - done.order[::-1].index(index)
