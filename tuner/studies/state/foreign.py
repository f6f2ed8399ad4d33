"""Trials of a study that other Optuna clients have begun or told of.

A trial of ours is in our table from the moment at which it runs, so one that runs, or has ended, without a row there is
another client's: nobody here trains it or tells how it ends. Samplers learn from it where they can. They cannot from
one that lacks a parameter: a Gaussian process then has none that all trials share, and draws by chance. Nor from one
whose value is not finite.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import select
from sqlalchemy.orm import Session

from tuner.space.space import SearchSpace
from tuner.storage import optuna_rows
from tuner.storage.tables import TrialRow


def foreign_trials(session: Session, study_id: int, begun: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Those of the trials that do not wait which are not ours."""
    ours = set(session.scalars(select(TrialRow.trial_id).where(TrialRow.study_id == study_id)))
    return [trial for trial in begun if trial._trial_id not in ours]


def count_usable(session: Session, optuna_study_id: int, study_id: int, space: SearchSpace) -> int:
    """How many of the foreign trials that are complete or pruned a sampler learns from."""
    ended = (TrialState.COMPLETE, TrialState.PRUNED)
    begun = [trial for trial in optuna_rows.read_heads(session, optuna_study_id) if trial.state in ended]
    foreign = foreign_trials(session, study_id, begun)
    optuna_rows.fill_params(session, foreign)
    return sum(as_ours(trial, space) is not None for trial in foreign)


def as_ours(trial: FrozenTrial, space: SearchSpace) -> FrozenTrial | None:
    """A foreign trial as the study itself would have made it; None where a sampler cannot learn from it.

    Other ranges than the study's would be to samplers other parameters.
    """
    params = space.params_among(trial.params)
    if params is None or not all(map(math.isfinite, trial.values or ())):
        return None
    distributions = space.distributions()
    seen = copy.copy(trial)
    seen.params, seen.distributions = params, {name: distributions[name] for name in params}
    seen.intermediate_values = {
        step: value for step, value in trial.intermediate_values.items() if math.isfinite(value)
    }
    return seen
