"""Running a worker, on a study or on its repeats, with a display."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

from tuner.cli.coloured import secho

if TYPE_CHECKING:
    from tuner.cli.progress import Progress
    from tuner.studies.reading import StudyReader
    from tuner.studies.study import Study
    from tuner.studies.trust.repeats import Repeats
    from tuner.workers.devices import SlotPlan
    from tuner.workers.observer import WorkerReport


def work(
    study: Study,
    plans: list[SlotPlan],
    timeout: float | None,
    trainer: str | None = None,
    elsewhere: Callable[[], bool] | None = None,
    *,
    by_plan: bool = False,
) -> WorkerReport:
    """Run a worker with a display and the dashboard's pictures, and print what came of it, not yet what to do next.

    Args:
        study: Which.
        plans: The slots.
        timeout: Seconds that it may take; None without a limit.
        trainer: What trains; None: the built-in one.
        elsewhere: Whether there is work for it elsewhere.
        by_plan: Whether the timeout is what the study's plan leaves to the search, not a limit of this run.
    """
    from tuner.cli.summary import print_report
    from tuner.cli.trust import print_trust, trust_of
    from tuner.report.dashboard import DashboardObserver
    from tuner.workers.observer import Background
    from tuner.workers.trainer_choice import BUILT_IN_TRAINER
    from tuner.workers.worker import run_worker

    report = run_worker(
        study,
        slots=plans,
        trainer=trainer or BUILT_IN_TRAINER,
        timeout=timeout,
        observers=[_display(study, _seconds_for(study, timeout)), Background(DashboardObserver(study))],
        elsewhere=elsewhere,
    )
    trust = trust_of(study)
    print_report(study, report, trust, by_plan=by_plan)
    print_trust(trust)
    return report


def work_on_repeats(
    repeats: Repeats, plans: list[SlotPlan], timeout: float | None, trainer: str | None, *, quiet: bool = False
) -> WorkerReport:
    """Run what is planned, with a display; says why where not all of it was run."""
    from tuner.cli.summary import REASONS
    from tuner.workers.trainer_choice import BUILT_IN_TRAINER
    from tuner.workers.worker import run_worker

    report = run_worker(
        repeats,
        slots=plans,
        trainer=trainer or BUILT_IN_TRAINER,
        timeout=timeout,
        observers=[] if quiet else [_display(repeats, timeout)],
    )
    if report.reason == "stopped":
        why = f": {report.message}" if report.message else ""
        typer.echo(f"Stopped by `tuner stop`{why}; running trials have saved their state.", err=quiet)
    elif report.message:
        secho(f"error: {report.message}", fg="red", err=True)
    elif cut_short(report, repeats):
        typer.echo(REASONS[report.reason], err=quiet)
    return report


def cut_short(report: WorkerReport, repeats: Repeats) -> bool:
    """Whether something of what was asked for is left: what ended a worker may have come together with its last run."""
    return report.reason == "failed" or (report.reason != "finished" and bool(repeats.unfinished()))


def _seconds_for(study: Study, timeout: float | None) -> float | None:
    """Seconds until a run of the study ends by its timeout or its budget of wall time; None without a limit."""
    wall_time = study.spec.budget.wall_time
    limits = [timeout] if wall_time is None else [timeout, max(0.0, wall_time - study.wall_seconds())]
    return min((limit for limit in limits if limit is not None), default=None)


def _display(study: StudyReader, timeout: float | None) -> Progress:
    from tuner.cli.fitting import screen
    from tuner.cli.live import LiveTable
    from tuner.cli.plain import PlainLog

    console = screen()
    return LiveTable(study, console, timeout) if console.is_interactive else PlainLog(study, timeout)


def exit_code(report: WorkerReport, study: Study | None = None) -> int:
    """0, 1 where failures ended or paused the study or are all that came of it, 130 after Ctrl-C."""
    from tuner.cli.summary import only_failures

    if report.reason == "finished" and study is not None and only_failures(study.summary()):
        return 1
    return {"failed": 1, "paused": 1, "interrupted": 130}.get(report.reason, 0)
