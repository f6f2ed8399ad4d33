"""Points that a user or an earlier study brings: trained before anything is sampled, right after the default config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna

from tuner.config.errors import ConfigError, StudyError, nearest
from tuner.config.load import base_config
from tuner.config.source import read_yaml_list, where
from tuner.config.study import StudySpec
from tuner.config.trial import TrialConfig
from tuner.space.checks import SWEPT_FIELDS
from tuner.space.fields import OWN, InfeasibleConfig, get_value, has_value, search_fields
from tuner.space.space import SearchSpace, same_params
from tuner.storage.urls import resolve
from tuner.studies.reading import StudyReader
from tuner.studies.search.quiet_optuna import quiet
from tuner.studies.state.budgets import counted_trials
from tuner.studies.state.records import DEFAULT, TrialRecord
from tuner.studies.study import Study
from tuner.studies.trials.leases import ASK_SECONDS, asking
from tuner.studies.trust.confirm import confirmation, measured

WARM_START = 5
"""So many of an earlier study's best configs are taken over."""


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
            params = _params(space, base, given)
        except ConfigError as error:  # or of a dimension that is active in the point, and has the default's value there
            hint = "" if isinstance(error, InfeasibleConfig) else "Give a value for it in the point."
            raise ConfigError(f"{path}:{given.line}: point {number}: {error.message}", hint=hint) from None
        inactive = [name for name in given if name not in params]
        if inactive:
            place = where(given, (inactive[0],))
            raise ConfigError(f"{place}point {number}: {inactive[0]} is given, but its conditions do not hold")
        points.append(params)
    return points


def check_warm_start(spec: StudySpec, earlier: StudyReader) -> None:
    """Check that a study can start from an earlier one, before it is made.

    Raises:
        StudyError: The earlier study is the same, has another objective, or no complete
            trial.
    """
    if earlier.name == spec.name and earlier.database.url == resolve(spec.storage):
        raise StudyError(f"study {spec.name!r} cannot start from itself", hint="Name an earlier study.")
    ours, theirs = spec.objective, earlier.spec.objective
    if (ours.metric, ours.direction) != (theirs.metric, theirs.direction):
        raise StudyError(
            f"study {earlier.name!r} was to {theirs.direction} {theirs.metric}, this one is to {ours.direction} "
            f"{ours.metric}: what was best there says little here",
            hint="Start from a study with the same objective.",
        )
    if earlier.best() is None:
        limits = f" that keeps {' and '.join(earlier.spec.constraints)}" if earlier.spec.constraints else ""
        raise StudyError(f"study {earlier.name!r} has no complete trial{limits} to start from")


def warm_points(spec: StudySpec, space: SearchSpace, earlier: Study) -> tuple[list[dict[str, Any]], list[str]]:
    """The best configs of an earlier study, as far as the space of a new one holds them.

    Those that it confirmed come first, by their means over fresh seeds, but for those that break a constraint on
    average; the others follow by their one run each. Post-processing that the earlier study swept and the new one
    samples is what was found best after the trial.

    Args:
        spec: The new study's.
        space: Its space.
        earlier: The earlier study.

    Returns:
        Their parameters, best first, and what was skipped, for a reader.

    Raises:
        StudyError: See `check_warm_start`.
    """
    check_warm_start(spec, earlier)
    base = base_config(spec)
    points: list[dict[str, Any]] = []
    ranked, skipped = _ranked(earlier)
    for trial in ranked:
        if len(points) == WARM_START:
            break
        given = {name: get_value(trial.config, name) for name in space.sampled if has_value(trial.config, name)}
        found = _found(earlier, trial, space)
        given |= {name: value for name, value in found.items() if space.sampled[name].contains(value)}
        try:
            active = space.active(space.with_fixed(base, given))
            outside = [name for name, value in active.items() if not space.sampled[name].contains(value)]
            if outside:
                name = outside[0]
                text = f"{name} = {active[name]!r} lies outside {space.sampled[name]}"
                skipped.append(f"trial {trial.number}: {text}")
                continue
            params = _params(space, base, given)
        except InfeasibleConfig as error:
            skipped.append(f"trial {trial.number}: {error.message}")
            continue
        for name in [name for name, value in found.items() if name in params and given[name] != value]:
            text = f"{name} = {found[name]!r}, found best after it, lies outside {space.sampled[name]}"
            skipped.append(f"trial {trial.number}: {text}; {params[name]!r} is taken")
        config = space.apply(base, params)
        fixed = search_fields().keys() - space.sampled.keys() - space.swept.keys()
        names = fixed | trial.params.keys() | {f"{OWN}{name}" for name in trial.config.own.values}
        lost = sorted(
            n for n in names if not has_value(config, n) or get_value(config, n) != get_value(trial.config, n)
        )
        if lost:
            skipped.append(f"trial {trial.number}: this space has no {', '.join(lost)}; the default's values are taken")
        if not any(same_params(params, other) for other in points):
            points.append(params)
    return points, skipped


def _ranked(earlier: Study) -> tuple[list[TrialRecord], list[str]]:
    """The trials of a study that keep its constraints, in the order of `warm_points`, and what of it is skipped."""
    trials = earlier.ranked()
    try:
        found = confirmation(earlier)
    except StudyError as error:
        return trials, [f"its confirmation says nothing, so one run of each config counts: {error.message}"]
    if found is None:
        return trials, []
    confirmed = [one.key for one in found.ranking.estimates]
    kept = [number for number in confirmed if number not in found.broken]
    by_number = {trial.number: trial for trial in earlier.trials(numbers=kept, epochs=False)}
    unconfirmed = [trial for trial in trials if trial.number not in confirmed]
    broken = [number for number in (trial.number for trial in trials) if number in found.broken]
    skipped = [f"trial {number}: it does not keep {found.broken[number]}" for number in broken]
    return [by_number[number] for number in kept] + unconfirmed, skipped


def _found(earlier: Study, trial: TrialRecord, space: SearchSpace) -> dict[str, Any]:
    """What a study has swept after a trial, as far as a space samples it."""
    names = SWEPT_FIELDS.keys() & space.sampled.keys() - trial.params.keys()
    point = measured(earlier, earlier.trials(numbers=[trial.number])[0]).operating_point if names else None
    return {} if point is None else {name: get_value(point, name) for name in sorted(names)}


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


def _params(space: SearchSpace, base: TrialConfig, given: Mapping[str, Any]) -> dict[str, Any]:
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
