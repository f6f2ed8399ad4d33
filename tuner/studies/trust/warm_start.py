"""Starting a study from the best configs of an earlier one, those first that it has confirmed."""

from __future__ import annotations

from typing import Any

from tuner.config.errors import StudyError
from tuner.config.load import base_config
from tuner.config.study import StudySpec
from tuner.space.checks import SWEPT_FIELDS
from tuner.space.fields import OWN, InfeasibleConfig, get_value, has_value, search_fields
from tuner.space.space import SearchSpace, same_params
from tuner.storage.urls import resolve
from tuner.studies.enqueue import point_of
from tuner.studies.reading import StudyReader
from tuner.studies.search.objective import keeping
from tuner.studies.state.records import TrialRecord
from tuner.studies.study import Study
from tuner.studies.trust.confirm import confirmation, measured

MOST = 5
"""So many of an earlier study's best configs are taken over, beside the default config, which is trained anyway."""


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
        raise StudyError(f"study {earlier.name!r} has no complete trial{keeping(earlier.spec)} to start from")


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
    default = space.params_of(base)
    points: list[dict[str, Any]] = []
    ranked, skipped = _ranked(earlier)
    for trial in ranked:
        if sum(not same_params(point, default) for point in points) == MOST:
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
            params = point_of(space, base, given)
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
