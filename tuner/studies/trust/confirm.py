"""Confirming the best configs of a study with fresh seeds (decision 9 of the design)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tuner.config.errors import StudyError
from tuner.config.study import StudySpec
from tuner.storage.urls import storage_option
from tuner.studies.search.objective import broken_on_average, keeping
from tuner.studies.state.records import GOING, TrialRecord, TrialState
from tuner.studies.study import Study
from tuner.studies.trials.journal import RETRIED
from tuner.studies.trust.confidence import Estimate, rank
from tuner.studies.trust.confirmation import Confirmation
from tuner.studies.trust.repeats import (
    Repeats,
    count_to,
    find_repeats,
    fresh_seeds,
    last_request,
    open_repeats,
    pair_of,
)


@dataclass(frozen=True)
class LeftOver:
    """Runs that were planned before and are not asked for now.

    Attributes:
        runs: How many.
        top: Of a request that reaches all of them; 0 where they are the default config's alone.
        seeds: Likewise.
    """

    runs: int
    top: int
    seeds: int


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
        StudyError: The default config has no trial, or no other trial is complete and keeps the constraints; or the
            study is none but another's repeats.
    """
    default, *chosen = _compared(study, top)
    configs = {trial.number: trial.config for trial in (default, *chosen)}
    repeats = open_repeats(study)
    repeats.plan(configs, fresh_seeds(study, seeds))
    return repeats


def begun(study: Study, top: int, seeds: int) -> Repeats | None:
    """The runs of the last request, where some of them have not ended and it asked for no more than this; else None."""
    repeats = find_repeats(study)
    if repeats is None:
        return None
    repeats.asked = last_request(repeats.runs())
    trials, used = ({pair[i] for pair in repeats.asked} for i in (0, 1))
    return repeats if len(trials) <= top + 1 and len(used) <= seeds and repeats.unfinished() else None


def adds_nothing(study: Study, top: int, seeds: int) -> bool:
    """Whether `plan_confirmation` would find all runs finished.

    Raises:
        StudyError: As there.
    """
    repeats = find_repeats(study)
    runs = [] if repeats is None else repeats.runs()
    ended = {pair_of(run.params) for run in runs if run.state not in GOING and run.kind not in RETRIED}
    wanted = fresh_seeds(study, seeds)
    return all((trial.number, seed) in ended for trial in _compared(study, top) for seed in wanted)


def _compared(study: Study, top: int) -> list[TrialRecord]:
    """The default config's trial and the best others; raises as `plan_confirmation` says."""
    default = study.default_trial()
    if default is None:
        raise StudyError(
            f"study {study.name!r} has no trial of the default config: there is nothing to compare with",
            hint="Let it begin with `tuner run`.",
        )
    chosen = _best(study, default)[:top]
    if not chosen:
        raise StudyError(
            f"study {study.name!r} has no complete trial beside the default config's{keeping(study.spec)}: there is "
            "nothing to confirm",
            hint="Run it with a larger budget; see how far it is with "
            f"`tuner status {study.name}{storage_option(study.database.url)}`.",
        )
    return [default, *chosen]


def left_over(study: Study, repeats: Repeats) -> LeftOver | None:
    """What was planned before, has not ended, and is not asked for now; None where there is nothing such."""
    planned = [run for run in repeats.runs() if run.state in GOING]
    left = [run for run in planned if repeats.asked and pair_of(run.params) not in repeats.asked]
    if not left:
        return None
    default = study.default_trial()
    order = [] if default is None else [trial.number for trial in _best(study, default)]
    trials = {run.params["trial"] for run in left}
    top = max((order.index(trial) + 1 for trial in trials if trial in order), default=0)
    return LeftOver(len(left), top, max(count_to(study, run.seed) for run in left))


def confirmation(study: Study) -> Confirmation | None:
    """What the finished runs say; None before a config and the default have two of the same seeds.

    Configs may have been repeated with several numbers of seeds, by one call after the other: those are compared that
    have the seeds of the last request, as far as one of its configs has them already.

    Raises:
        StudyError: Runs failed, so that nothing is left to compare; says which.
    """
    repeats, default = find_repeats(study), study.default_trial()
    if repeats is None or default is None:
        return None
    runs = repeats.runs()
    asked = last_request(runs) or frozenset(pair_of(run.params) for run in runs)
    requested, wanted = ({pair[i] for pair in asked} for i in (0, 1))
    counted = [run for run in runs if run.seed in wanted]
    unfinished = {run.params["trial"] for run in counted if run.state in GOING}
    by_config: dict[int, dict[int, TrialRecord]] = {default.number: {}}  # later planned ones behind
    for run in counted:
        if run.state not in GOING:
            by_config[run.params["trial"]] = by_config.pop(run.params["trial"], {}) | {run.seed: run}
    common = {number: sorted(own.keys() & by_config[default.number].keys()) for number, own in by_config.items()}
    comparable = [number for number, seeds in common.items() if number != default.number and len(seeds) > 1]
    if not comparable:
        return None
    by_order = sorted(comparable, key=lambda number: (number not in unfinished, number in requested))  # stable
    planned = common[by_order[-1]]
    lost = {seed: _failure(run) for seed in planned if _failed(run := by_config[default.number][seed])}
    seeds = [seed for seed in planned if seed not in lost]
    if len(seeds) < 2:
        raise StudyError(f"the default config was {'; '.join(lost.values())}: too few seeds are left to compare with")
    left_out: dict[int, str] = {}
    for number, own in sorted(by_config.items()):
        failed = [seed for seed in seeds if seed in own and _failed(own[seed])]
        there = sum(seed in own for seed in seeds)
        if failed:
            left_out[number] = _failure(own[failed[0]])
        elif there < len(seeds) and number in unfinished:
            left_out[number] = f"not finished with {len(seeds) - there} of the {len(seeds)} seeds"
        elif there < len(seeds):
            left_out[number] = f"trained with {there} of the {len(seeds)} seeds"
    rest = {number: own for number, own in by_config.items() if number not in left_out}
    if len(rest) < 2:
        why = "; ".join(f"trial {number} was {reason}" for number, reason in left_out.items())
        raise StudyError(f"no config beside the default was trained with all seeds: {why}")
    sign = study.spec.objective.sign
    values = {number: [sign * (own[seed].value or 0.0) for seed in seeds] for number, own in rest.items()}
    broken = _broken(study.spec, repeats, [[own[seed] for seed in seeds] for own in rest.values()])
    ranking = rank(values, default.number, broken)
    if sign < 0:
        ranking = replace(ranking, estimates=tuple(_turned(one) for one in ranking.estimates))
    to_come = sum(run.state in GOING and pair_of(run.params) in asked for run in counted)
    more = Counter(run.params["trial"] for run in runs if run.seed not in wanted and not _failed(run))
    unused = {number: more[number] for number in rest if more[number] and number != default.number}
    return Confirmation(ranking, tuple(seeds), left_out, lost, to_come, broken, unused)


def measured(study: Study, trial: TrialRecord) -> TrialRecord:
    """A trial itself where it is complete, else the first complete run of its config with a fresh seed.

    The run has the number and the parameters of the trial.
    """
    repeats = find_repeats(study)
    if trial.state is TrialState.COMPLETE or repeats is None:
        return trial
    own = [run.number for run in repeats.runs() if run.params["trial"] == trial.number and not _failed(run)]
    if not own:
        return trial
    return replace(repeats.trials(numbers=own[:1])[0], number=trial.number, params=trial.params)


def winner_of(study: Study) -> TrialRecord | None:
    """The confirmed winner, as `measured` has it; None where there is none, or runs failed."""
    try:
        found = confirmation(study)
    except StudyError:
        return None
    if found is None or found.winner is None:
        return None
    return measured(study, study.trials(numbers=[found.winner.key])[0])


def _broken(spec: StudySpec, repeats: Repeats, configs: Sequence[Sequence[TrialRecord]]) -> dict[int, str]:
    """Which constraints the complete runs of each config break on average; without configs that keep all."""
    if not spec.constraints:
        return {}
    records = {run.number: run for run in repeats.trials(numbers=[run.number for runs in configs for run in runs])}
    found = {}
    for runs in configs:
        metrics = [last for run in runs if (last := records[run.number].metrics) is not None]
        if broken := broken_on_average(spec, metrics):
            found[runs[0].params["trial"]] = broken
    return found


def _failed(run: TrialRecord) -> bool:
    return run.state is not TrialState.COMPLETE or run.value is None


def _failure(run: TrialRecord) -> str:
    return f"{run.state} with seed {run.seed}: {run.reason or run.kind}"


def _best(study: Study, default: TrialRecord) -> list[TrialRecord]:
    """The best complete trials with different configs that keep the constraints, the default's left out."""
    chosen: list[TrialRecord] = []
    for trial in study.ranked():
        if trial.config not in [other.config for other in (default, *chosen)]:
            chosen.append(trial)
    return chosen


def _turned(one: Estimate) -> Estimate:
    """An estimate of negated values in their own sign."""
    return replace(one, values=tuple(-v for v in one.values), mean=-one.mean, low=-one.high, high=-one.low)
