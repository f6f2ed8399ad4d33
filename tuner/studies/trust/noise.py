"""The noise of a study: its default config trained with several seeds, by which a gain can be judged at once.

The best trial has one run, so what is said of it rests on noise that is normal and the same for all configs. In
simulations of 30 trials, none better than the default config with its three or five runs, one stands out by luck in 5 %
of studies; in 12 or 19 % where tails are heavy (Student's t with three degrees of freedom), and in 10 or 16 % where
the others are 1.5 times as noisy as the default. A claim takes fresh seeds (`tuner.studies.trust.confidence`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tuner.storage.tables import TrialRow
from tuner.studies.search.objective import broken_on_average
from tuner.studies.state.records import UNCOUNTED, TrialState
from tuner.studies.state.results import best_numbers, default_values
from tuner.studies.study import Study
from tuner.studies.trust.confidence import beyond_rounding, chance, hidden_spread
from tuner.studies.trust.repeats import Repeats, find_repeats, fresh_seeds, open_repeats

STANDS_OUT = 0.05
"""A best trial stands out when luck alone gives such a gain less often than this."""


@dataclass(frozen=True)
class Noise:
    """What repeated runs of the default config say about the best trial.

    Attributes:
        values: Of the default config, by seed, that of its trial first, where it is complete.
        spread: Their standard deviation, or what may be hidden where the metric comes in steps.
        gain: Of the best other trial over the mean of the values, positive if better; None before there is one.
        luck: Probability that the best of so many trials gains as much though none is better. All that were judged
            count: those that were stopped or paused lost the same race by chance. Those that were never trained do not.
        trial: Number of that best other trial.
        broken: Which constraints the default config breaks on average; empty: none; None: the study has none.
    """

    values: tuple[float, ...]
    spread: float
    gain: float | None
    luck: float | None
    trial: int | None
    broken: str | None = None

    @property
    def stands_out(self) -> bool:
        """Whether noise does not explain the best trial's gain."""
        return self.luck is not None and self.luck < STANDS_OUT

    @property
    def measured(self) -> str:
        """What was measured, without the gain."""
        return f"{len(self.values)} runs of the default config spread by {self.spread:.4f}"

    @property
    def verdict(self) -> str:
        """One sentence for status lines."""
        return self._verdict + (f"; the default config itself does not keep {self.broken}" if self.broken else "")

    @property
    def _verdict(self) -> str:
        runs = self.measured
        if self.gain is None or self.luck is None:
            return runs
        if self.gain <= 0:
            keeps = "" if self.broken is None else " that keeps the constraints"
            return f"{runs}; no trial{keeps} is better than their mean"
        times = f"{self.gain / self.spread:.1f} times that"
        if self.stands_out:
            return f"{runs}; the best trial's gain of {self.gain:.4f} is {times} and stands out"
        return (
            f"{runs}; the best trial's gain of {self.gain:.4f} is {times} and does not stand out yet: "
            f"luck alone brings it in {self.luck:.0%} of such studies"
        )


def plan_baseline(study: Study, runs: int) -> Repeats:
    """Have the default config trained with further seeds, as far as it is not yet.

    Args:
        study: The study.
        runs: Of the default config in all, its trial included.

    Returns:
        What `run_worker` shall run first.
    """
    from tuner.models.anchors import resolve_anchors

    trial = study.default_trial()  # one that was begun before defaults changed keeps its config
    config = study.space.default_config(study.base) if trial is None else trial.config
    repeats = open_repeats(study)
    repeats.plan({repeats.default: resolve_anchors(config, study.dataset.train)}, fresh_seeds(study, runs - 1))
    return repeats


def noise_of(study: Study) -> Noise | None:
    """The noise of a study; None before the default config has two complete runs, its own trial or not."""
    repeats, default = find_repeats(study), study.default_trial()
    if repeats is None or default is None:
        return None
    ids = (study._id, repeats._id)
    values = study.database.run(lambda session: [value for own in ids for value in default_values(session, own)])
    if len(values) < 2:
        return None
    spread = float(np.std(values, ddof=1))
    broken = _broken(study, repeats)
    first_two = study.database.run(lambda session: best_numbers(session, study._id, 2))
    best = next((found for found in first_two if found[0] != default.number), None)
    others = study.database.run(lambda session: _judged(session, study._id))
    if best is None:
        return Noise(tuple(values), spread, None, None, None, broken)
    gain = float(beyond_rounding(study.spec.objective.sign * (best[1] - np.mean(values)), values))
    spread = max(spread, hidden_spread([*values, best[1]]))
    luck = chance(gain, spread, len(values) - 1, others, 1, len(values))
    return Noise(tuple(values), spread, gain, luck, best[0], broken)


def _broken(study: Study, repeats: Repeats) -> str | None:
    """Which constraints the complete runs of the default config break on average; None: there are no constraints."""
    if not study.spec.constraints:
        return None
    metrics = []
    for runs in (study, repeats):
        complete = runs.trials(states=[TrialState.COMPLETE], epochs=False)
        own = runs.trials(numbers=[run.number for run in complete if run.is_default])
        metrics += [run.metrics for run in own if run.metrics is not None]
    return broken_on_average(study.spec, metrics)


def _judged(session: Session, study_id: int) -> int:
    """How many trials of a study were trained and compared with the default config."""
    states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.PAUSED)
    trained = func.coalesce(TrialRow.kind, "").not_in(UNCOUNTED)
    judged = (TrialRow.study_id == study_id, TrialRow.is_default.is_(False), TrialRow.state.in_(states), trained)
    return session.scalar(select(func.count()).where(*judged)) or 0
