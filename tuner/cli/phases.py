"""The phases of `tuner run`: the noise of the default config, the search, and the confirmation of its best."""

from __future__ import annotations

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

    plan, left = spec.plan, spec.budget.timeout
    if left is not None:
        left = max(1.0, left - (time.monotonic() - started))
    if plan is not None:
        print_plan(plan)
        limit = search_limit(study, plan)
        if not limit:
            found = study.summary()
            print_findings(found, shown_gain(found, spec.objective.direction, trust_of(study)))
            typer.echo("The time of the search is up; a larger --hours goes on with it.")
            return confirm_planned(study, plan, plans, trainer)
        left = min(left or limit, limit)
    if baseline_repeats > 1:
        left = _measure_noise(study, baseline_repeats, plans, left, trainer)
    report = work(study, plans, left, trainer)
    code = exit_code(report, study)
    if (
        code
        or plan is None
        or report.reason not in ("finished", "timeout")
        or (spec.budget.timeout and report.reason == "timeout")
    ):
        return code
    return confirm_planned(study, plan, plans, trainer)


def _measure_noise(
    study: Study, runs: int, plans: list[SlotPlan], timeout: float | None, trainer: str | None
) -> float | None:
    """Train the default config with further seeds; returns the time that is left."""
    from tuner.cli.confirm import print_left_over
    from tuner.cli.work import cut_short, exit_code, work_on_repeats
    from tuner.studies.noise import plan_baseline

    repeats = plan_baseline(study, runs)
    print_left_over(study, repeats)
    if not repeats.unfinished():
        return timeout
    report = work_on_repeats(repeats, plans, timeout, trainer)
    if cut_short(report, repeats):
        typer.echo("The default config's repeats are not finished; the same command goes on with them.")
        raise typer.Exit(exit_code(report))
    return None if timeout is None else max(1.0, timeout - report.wall_seconds)
