"""The phases of `tuner run`: the noise of the default config, the search, and the confirmation of its best."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from tuner.config.study import StudySpec
    from tuner.studies.study import Study
    from tuner.workers.devices import SlotPlan


def search_and_confirm(
    study: Study, spec: StudySpec, plans: list[SlotPlan], started: float, baseline_repeats: int, trainer: str | None
) -> int:
    """Work on the study, and confirm its best where that was planned; the exit code."""
    from tuner.cli.plan import confirm_planned, print_plan, search_limit
    from tuner.cli.summary import print_findings
    from tuner.cli.trust import shown_gain, trust_of
    from tuner.cli.work import exit_code, work

    plan = spec.plan
    run_ends = started + spec.budget.timeout if spec.budget.timeout is not None else math.inf
    search_ends = run_ends
    if plan is not None:
        print_plan(plan)
        limit = search_limit(study, plan)
        if not limit:
            found = study.summary()
            print_findings(found, shown_gain(found, spec, trust_of(study)))
            typer.echo("The time of the search is up; a larger --hours goes on with it.")
            return confirm_planned(study, plan, plans, seconds_until(run_ends), trainer)
        search_ends = min(run_ends, time.monotonic() + limit)
    if baseline_repeats > 1:
        _measure_noise(study, baseline_repeats, plans, search_ends, trainer)
    by_plan = search_ends < run_ends
    report = work(study, plans, seconds_until(search_ends), trainer, by_plan=by_plan)
    code = exit_code(report, study)
    if code or plan is None or not (report.reason == "finished" or (report.reason == "timeout" and by_plan)):
        return code
    return confirm_planned(study, plan, plans, seconds_until(run_ends), trainer)


def _measure_noise(study: Study, runs: int, plans: list[SlotPlan], ends: float, trainer: str | None) -> None:
    """Train the default config with further seeds, until a moment of the monotonic clock at the latest."""
    from tuner.cli.confirm import print_left_over
    from tuner.cli.work import cut_short, exit_code, work_on_repeats
    from tuner.studies.trust.noise import plan_baseline

    repeats = plan_baseline(study, runs)
    print_left_over(study, repeats)
    if not repeats.unfinished():
        return
    report = work_on_repeats(repeats, plans, seconds_until(ends), trainer)
    if cut_short(report, repeats):
        typer.echo("The default config's repeats are not finished; the same command goes on with them.")
        raise typer.Exit(exit_code(report))


def seconds_until(moment: float) -> float | None:
    """Seconds until a moment of the monotonic clock, at least 1; None where that never comes."""
    return None if math.isinf(moment) else max(1.0, moment - time.monotonic())
