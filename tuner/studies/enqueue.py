"""Points that a user brings: trained before anything is sampled, right after the default config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna

from tuner.config.errors import ConfigError, nearest
from tuner.config.source import read_yaml_list, where
from tuner.config.trial import TrialConfig
from tuner.space.fields import InfeasibleConfig
from tuner.space.space import SearchSpace, same_params
from tuner.studies.search.quiet_optuna import quiet
from tuner.studies.state.budgets import counted_trials
from tuner.studies.state.records import DEFAULT
from tuner.studies.study import Study
from tuner.studies.trials.leases import ASK_SECONDS, asking


@dataclass(frozen=True)
class Queued:
    """What became of points.

    Attributes:
        added: How many wait to be trained.
        known: Where each of the others was found: number of the trial that has trained, trains or will train it.
        waiting: How many points wait now, those that were queued before included.
        begun: How many trials count for the budget already.
    """

    added: int
    known: tuple[int, ...]
    waiting: int
    begun: int


def read_points(
    path: Path, space: SearchSpace, base: TrialConfig, ruled_out: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """Points of a YAML or JSON file: a list of mappings from dimensions to values, the default's where one is missing.

    Args:
        path: The file.
        space: Where they must lie.
        base: The study's default config.
        ruled_out: Anchor recipes that the space held before the data set ruled them out, and why.

    Returns:
        The parameters of each.

    Raises:
        ConfigError: There is no point, or one lies outside the space; names point, key and range.
    """
    points = []
    listed = read_yaml_list(path)
    if not listed:
        raise ConfigError(f"{path}: the list is empty", hint="Give points such as `- {learning_rate: 3e-3}`.")
    for number, given in enumerate(listed, 1):
        for name, value in given.items():
            place = f"{where(given, (name,))}point {number}: "
            if name not in space.sampled:
                raise ConfigError(f"{place}{_unsampled(space, name)}", hint=nearest(name, space.sampled))
            if name == "anchors" and ruled_out and str(value) in ruled_out:
                raise ConfigError(f"{place}anchors = {value!r} is ruled out by the data set: {ruled_out[str(value)]}")
            if not space.sampled[name].contains(value):
                raise ConfigError(f"{place}{name} = {value!r} lies outside the space: {space.sampled[name]}")
        try:
            params = point_of(space, base, given)
        except ConfigError as error:  # or of a dimension that is active in the point, and has the default's value there
            hint = "" if isinstance(error, InfeasibleConfig) else "Give a value for it in the point."
            raise ConfigError(f"{path}:{given.line}: point {number}: {error.message}", hint=hint) from None
        inactive = [name for name in given if name not in params]
        if inactive:
            place = where(given, (inactive[0],))
            raise ConfigError(f"{place}point {number}: {inactive[0]} is given, but its conditions do not hold")
        points.append(params)
    return points


def enqueue(study: Study, points: Sequence[dict[str, Any]]) -> Queued:
    """Have points trained next, after the default config; what the study has or will train already is left out.

    Optuna's sampler sees them as trials like any other. May be called again with the same points.

    Raises:
        ConfigError: A point lies outside the study's space.
    """
    added, known = 0, []
    for number, params in enumerate(points, 1):
        try:
            study.space.apply(study.base, params)
        except ConfigError as error:  # anchors that the boxes rule out, which the file's space still holds
            raise ConfigError(f"point {number}: {error.message}", hint="See what is left with --dry-run.") from None
    with asking(study.database, study._id, patience=2 * ASK_SECONDS), study.database.errors(), quiet():
        there = study.optuna.get_trials(deepcopy=False)
        if not there:
            study.optuna.enqueue_trial(study.space.params_of(study.base), user_attrs={DEFAULT: True})
            there = study.optuna.get_trials(deepcopy=False)
        have = [
            (trial.number, {**trial.system_attrs.get("fixed_params", {}), **trial.params})
            for trial in there
            if trial.state != optuna.trial.TrialState.FAIL
        ]
        for params in points:
            found = next((number for number, other in have if same_params(params, other)), None)
            if found is not None:
                known.append(found)
                continue
            study.optuna.enqueue_trial(params)
            have.append((len(there) + added, params))
            added += 1
        waiting = added + sum(trial.state == optuna.trial.TrialState.WAITING for trial in there)
        begun = study.database.run(lambda session: counted_trials(session, study._id))
    return Queued(added, tuple(known), waiting, begun)


def point_of(space: SearchSpace, base: TrialConfig, given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of the default config with some values replaced, those that are active."""
    params = space.params_of(space.with_fixed(base, given))
    space.apply(base, params)
    return params


def _unsampled(space: SearchSpace, name: str) -> str:
    """Why a point cannot give a value for a name."""
    if name in space.swept:
        return f"{name} is no part of a point: its best value is found after each trial"
    dimension = space.dimensions.get(name)
    if dimension is not None:
        return f"the space {space.name!r} does not sample {name}: it is {dimension} for all trials"
    return f"the space {space.name!r} samples no {name!r}"
