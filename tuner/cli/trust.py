"""The gain that a study is shown with, and how far it can be believed, for `tuner run`, `status` and `best`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import typer

from tuner.cli.coloured import secho

if TYPE_CHECKING:
    from tuner.config.study import StudySpec
    from tuner.studies.state.records import StudySummary
    from tuner.studies.study import Study
    from tuner.studies.trust.confirmation import Confirmation
    from tuner.studies.trust.noise import Noise

_BREAKS = "which does not keep them"


@dataclass(frozen=True)
class Trust:
    """What runs with other seeds say about a study; nothing where there are none.

    Attributes:
        noise: Of the default config.
        confirmation: Of the best configs.
        problem: Why the runs of `tuner confirm` say nothing.
    """

    noise: Noise | None = None
    confirmation: Confirmation | None = None
    problem: str | None = None


@dataclass(frozen=True)
class ShownGain:
    """The one gain over the default config that a study is shown with: the best known one.

    Attributes:
        kind: "confirmed": of means over the same fresh seeds; "mean": of one run over the mean of the default config's
            runs; "run": of one run over one.
        trial: Which gains; None where no config that keeps the constraints is better than the default one, or where
            none keeps them on average.
        value: Positive where better, whatever the objective's direction; None with `trial`.
        default: The default config's value, which it is over.
        default_runs: Of how many runs that is the mean.
        at_least: Lower limit of a confirmed gain; None of others.
        level: How sure that limit is.
        why_none: Why `trial` is None, in words; None where it is not.
        default_breaks: Constraints that the default config does not keep, of one run over one; that of others says so.
    """

    kind: Literal["confirmed", "mean", "run"]
    trial: int | None
    value: float | None
    default: float
    default_runs: int
    at_least: float | None = None
    level: float | None = None
    why_none: str | None = None
    default_breaks: str = ""


def trust_of(study: Study) -> Trust:
    """What is known."""
    from tuner.config.errors import StudyError
    from tuner.studies.trust.confirm import confirmation
    from tuner.studies.trust.noise import noise_of

    noise = noise_of(study)
    try:
        return Trust(noise, confirmation(study))
    except StudyError as error:
        return Trust(noise, problem=error.message)


def trust_in(name: str, storage: str | None) -> Trust:
    """`trust_of` a study by its name, for commands that otherwise do without all that this needs to be imported."""
    from tuner.studies.opening import open_study

    study = open_study(name, storage)
    trust = trust_of(study)
    study.close()
    return trust


def shown_gain(found: StudySummary, spec: StudySpec, trust: Trust) -> ShownGain | None:
    """The gain that is shown wherever the study is; None where the default config has no result.

    Args:
        found: The study.
        spec: Its spec.
        trust: What is known of it.
    """
    confirmed, noise = trust.confirmation, trust.noise
    none_better = f"no trial{' that keeps the constraints' if spec.constraints else ''} was better"
    if confirmed is not None:
        ranking, winner = confirmed.ranking, confirmed.winner
        default = next(one.mean for one in ranking.estimates if one.key == ranking.default)
        seeds = len(confirmed.seeds)
        if winner is None:
            why = "no config keeps the constraints on average"
            return ShownGain("confirmed", None, None, default, seeds, why_none=why)
        if winner.key == ranking.default:
            why = f"{none_better} in the mean of {seeds} fresh seeds"
            return ShownGain("confirmed", None, None, default, seeds, why_none=why)
        if winner.gain <= 0:
            why = f"{none_better} in the mean of {seeds} fresh seeds than the default config, {_BREAKS}"
            return ShownGain("confirmed", None, None, default, seeds, why_none=why)
        return ShownGain("confirmed", winner.key, winner.gain, default, seeds, ranking.gain_at_least, ranking.level)
    if noise is not None:
        mean = sum(noise.values) / len(noise.values)
        if noise.gain is None or noise.gain <= 0:
            return ShownGain("mean", None, None, mean, len(noise.values), why_none=f"{none_better} than that mean")
        return ShownGain("mean", noise.trial, noise.gain, mean, len(noise.values))
    if found.default_value is None:
        return None
    trial, value = found.best or (None, found.default_value)
    gain = spec.objective.sign * (value - found.default_value)
    if gain <= 0:
        why = f"{none_better} than the default config{f', {_BREAKS}' if gain < 0 else ''}"
        return ShownGain("run", None, None, found.default_value, 1, why_none=why, default_breaks=found.default_breaks)
    return ShownGain("run", trial, gain, found.default_value, 1, default_breaks=found.default_breaks)


def print_trust(trust: Trust) -> None:
    """The measured noise and the confirmation, where there are any."""
    noise, confirmed = trust.noise, trust.confirmation
    # What noise says of the best trial's one run is out of date once there is a confirmation.
    if noise is not None:
        typer.echo(f"noise      {noise.verdict if confirmed is None else noise.measured}")
    if trust.problem is not None:
        secho(f"confirmed  not: {trust.problem}", fg="yellow")
    elif confirmed is not None:
        secho(f"confirmed  {confirmed.verdict}", fg="green" if confirmed.stands_out else "yellow")


def trust_json(trust: Trust, gain: ShownGain | None) -> dict[str, Any]:
    """The same as JSON: `noise`, `confirmation` and `gain`, each null where there is none."""
    from dataclasses import asdict

    noise = trust.noise
    told = noise and asdict(noise) | {"stands_out": noise.stands_out, "verdict": noise.verdict}
    return {"noise": told, "confirmation": confirmed_json(trust), "gain": gain and asdict(gain)}


def confirmed_json(trust: Trust) -> dict[str, Any] | None:
    """The confirmation as JSON, or why the runs say nothing; None where there are none."""
    from dataclasses import asdict

    found = trust.confirmation
    if found is None:
        return None if trust.problem is None else {"problem": trust.problem}
    return {
        "finished": not found.to_come,
        "to_come": found.to_come,
        "winner": found.winner.key if found.winner else None,
        "stands_out": found.stands_out,
        "verdict": found.verdict,
        "seeds": list(found.seeds),
        "left_out": found.left_out,
        "lost_seeds": found.lost_seeds,
        "broken": found.broken,
        "unused": found.unused,
        **asdict(found.ranking),
    }
