"""Confirming the best configs of a study with fresh seeds (decision 9 of the design)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from tuner.config.errors import StudyError
from tuner.studies.confidence import CLAIM_LEVEL, Estimate, Ranking, chance, rank
from tuner.studies.handle import Study
from tuner.studies.records import TrialRecord, TrialState
from tuner.studies.repeats import Repeats, find_repeats, fresh_seeds, open_repeats

MAX_SEEDS = 30
"""More are not proposed."""


@dataclass(frozen=True)
class Confirmation:
    """What the runs with fresh seeds say.

    Attributes:
        ranking: The configs by the numbers of their trials, best mean first; its gains are positive where a
            config is better, whatever the objective's direction.
        seeds: That all of them were trained with.
        left_out: Trials whose config failed with one of the seeds, and why.
    """

    ranking: Ranking
    seeds: tuple[int, ...]
    left_out: dict[int, str]

    @property
    def verdict(self) -> str:
        """One sentence on the winner's gain over the default config, and on what would make it surer."""
        ranking, winner = self.ranking, self.ranking.winner
        if winner.key == ranking.default or winner.probability is None:
            return "nothing was better than the default config"
        others = len(ranking.estimates) - 1
        of = f" as the best of {others}" if others > 1 else ""
        least = f"at least {ranking.gain_at_least:+.4f} with {CLAIM_LEVEL:.1%}{of}"
        if ranking.stands_out:
            return f"trial {winner.key} is better than the default config: {winner.gain:+.4f}, {least}"
        chosen = f" by itself, {_percent(1 - ranking.luck)}{of}" if of else ""
        enough = _seeds_to_claim(ranking, len(self.seeds))
        surer = "the two are about equal" if enough is None else f"if the gain stays, {enough} seeds are enough for it"
        return (
            f"trial {winner.key} gains {winner.gain:+.4f} on average, {least}: better than the default config with a "
            f"probability of {_percent(winner.probability)}{chosen}, and a claim takes {CLAIM_LEVEL:.1%}; {surer}"
        )


def plan_confirmation(study: Study, top: int, seeds: int) -> Repeats:
    """Have the default config and the best others trained with fresh seeds, as far as they are not yet.

    The default config's own trial need not be complete: its runs with fresh seeds are what is compared with.

    Args:
        study: The study.
        top: How many complete trials beside the default's, best first.
        seeds: How many fresh seeds, the same for all configs.

    Returns:
        What `run_worker` shall run.

    Raises:
        StudyError: The default config has no trial, or no other trial is complete.
    """
    default = study.default_trial()
    if default is None:
        raise StudyError(
            f"study {study.name!r} has no trial of the default config: there is nothing to compare with",
            hint="Let it begin with `tuner run`.",
        )
    chosen = _best(study, default, top)
    if not chosen:
        raise StudyError(
            f"study {study.name!r} has no complete trial beside the default config's: there is nothing to confirm",
            hint=f"Run it with a larger budget; see how far it is with `tuner status {study.name}`.",
        )
    repeats = open_repeats(study)
    for trial in (default, *chosen):
        repeats.plan(trial.number, trial.config, fresh_seeds(study, seeds), is_default=trial.is_default)
    return repeats


def confirmation(study: Study) -> Confirmation | None:
    """What the finished runs say; None while some are to come, and before a config was repeated.

    Raises:
        StudyError: The default config failed with one of the seeds, so nothing can be compared with it.
    """
    repeats, default = find_repeats(study), study.default_trial()
    if repeats is None or default is None:
        return None
    runs = repeats.trials(epochs=False)
    names = {run.params["trial"] for run in runs}
    if names <= {default.number} or any(run.state in (TrialState.RUNNING, TrialState.INTERRUPTED) for run in runs):
        return None
    left_out = {
        run.params["trial"]: f"{run.state} with seed {run.seed}: {run.reason or run.kind}"
        for run in runs
        if run.state is not TrialState.COMPLETE or run.value is None
    }
    if default.number in left_out:
        raise StudyError(f"the default config {left_out[default.number]}: no config can be compared with it")
    values = {
        name: {run.seed: run.value for run in runs if run.params["trial"] == name and run.value is not None}
        for name in sorted(names - left_out.keys())
    }
    seeds = sorted(set.intersection(*(set(found) for found in values.values())))
    if len(values) < 2 or len(seeds) < 2:
        return None
    sign = 1.0 if study.spec.objective.direction == "maximize" else -1.0
    ranking = rank({name: [sign * found[seed] for seed in seeds] for name, found in values.items()}, default.number)
    if sign < 0:
        ranking = replace(ranking, estimates=tuple(_turned(one) for one in ranking.estimates))
    return Confirmation(ranking, tuple(seeds), left_out)


def _seeds_to_claim(ranking: Ranking, seeds: int) -> int | None:
    """With how many seeds the winner would stand out, were gain and noise the same; None: more than `MAX_SEEDS`."""
    others, gain = len(ranking.estimates) - 1, ranking.winner.gain
    for more in range(seeds + 1, MAX_SEEDS + 1):
        if chance(gain, ranking.spread, others * (more - 1), others, more, more) < 1 - CLAIM_LEVEL:
            return more
    return None


def _best(study: Study, default: TrialRecord, top: int) -> list[TrialRecord]:
    """The best complete trials with different configs, the default's left out."""
    sign = 1.0 if study.spec.objective.direction == "maximize" else -1.0
    complete = [t for t in study.trials(states=[TrialState.COMPLETE], epochs=False) if t.value is not None]
    chosen: list[TrialRecord] = []
    for trial in sorted(complete, key=lambda t: (-sign * (t.value or 0.0), t.number)):
        if trial.config not in [other.config for other in (default, *chosen)]:
            chosen.append(trial)
    return chosen[:top]


def _percent(probability: float) -> str:
    """Rounded down, so that what is below a limit never reads as the limit."""
    return f"{math.floor(probability * 1000) / 10:.1f}%"


def _turned(one: Estimate) -> Estimate:
    """An estimate of negated values in their own sign."""
    return replace(one, values=tuple(-v for v in one.values), mean=-one.mean, low=-one.high, high=-one.low)
