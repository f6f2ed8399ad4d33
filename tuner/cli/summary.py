"""What a study has found so far, for the end of a run and for `tuner status`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from tuner.cli.coloured import secho
from tuner.cli.common import change, duration, metric_name, number
from tuner.cli.own_trainer import trainer_option
from tuner.config.errors import plural
from tuner.storage.urls import storage_option
from tuner.studies.state.records import TrialState

if TYPE_CHECKING:
    from tuner.cli.trust import ShownGain, Trust
    from tuner.studies.reading import StudyReader
    from tuner.studies.state.records import StudySummary
    from tuner.studies.study import Study
    from tuner.workers.observer import WorkerReport

REASONS = {
    "finished": "The study's budget is spent.",
    "elsewhere": "Nothing can be begun here now, and another study has work.",
    "timeout": "The time is up; running trials have saved their state.",
    "interrupted": "Interrupted; running trials have saved their state.",
    "stopped": "Stopped by `tuner stop`; running trials have saved their state.",
    "paused": "The study is paused, because a disk is full or cannot be written.",
    "failed": "The study was ended by failures that would only repeat.",
}
"""Why a worker ended, by `WorkerReport.reason`."""


def print_report(study: Study, report: WorkerReport, trust: Trust, *, by_plan: bool) -> None:
    """The end of a run: why it ended, what was found, what it cost, and how to go on with it.

    Args:
        study: Which.
        report: Of the worker.
        trust: What `trust_of` says of the study.
        by_plan: Whether a timeout was what the study's plan left to the search.
    """
    from tuner.cli.trust import shown_gain

    found = study.summary()
    typer.echo("")
    which = f" ({found.spent})" if report.reason == "finished" and found.spent else ""
    secho(REASONS[report.reason].replace(".", f"{which}.", 1), bold=True)
    if report.message and report.reason == "stopped":
        typer.echo(report.message)
    elif report.message:
        secho(f"error: {report.message}", fg="red", err=True)
    if report.reason == "finished" and only_failures(found):
        secho(f"error: no trial has a result; {last_failure(study)}", fg="red", err=True)
    print_findings(found, shown_gain(found, study.spec, trust))
    print_cost(found)
    typer.echo(
        f"this run   {duration(report.wall_seconds)}, {plural(report.epochs, 'epoch')},"
        f" {duration(report.cpu_seconds)} of CPU time"
    )
    if report.reason == "timeout" and report.interrupted and not report.epochs:
        secho(
            "No epoch was finished in that time. What was trained of one is kept, but a start costs its time anew: "
            "give more than a start and an epoch take.",
            fg="yellow",
        )
    typer.echo("")
    if report.reason == "paused":
        typer.echo("Free space there, or mend what else is wrong; then the same command goes on with the study.")
    elif report.reason == "failed" and not (found.spent and only_failures(found)):
        typer.echo("The same command goes on with the study, once what failed is mended.")
    elif report.reason == "timeout" and by_plan:
        typer.echo("A larger --hours goes on with the search.")
    elif report.reason not in ("finished", "elsewhere", "failed"):
        typer.echo("The same command goes on with the study.")
    elif only_failures(found):
        command = f"tuner delete {study.name}{storage_option(study.database.url)}"
        typer.echo(f"Mend that; then raise the budget, or `{command}` and run again.")


def print_next(study: Study) -> None:
    """What to type next, where a trial is complete."""
    if study.summary().best is not None:
        for line in next_commands(study):
            typer.echo(line)


def last_failure(study: StudyReader) -> str:
    """Which trial failed last, and why."""
    failed = study.trials(states=[TrialState.FAILED], epochs=False)
    last = max(failed, key=lambda trial: trial.finished_at or 0.0)
    return f"trial {last.number} failed: {last.reason}"


def only_failures(found: StudySummary) -> bool:
    """Whether trials failed, and none brought a result."""
    return bool(found.counts[TrialState.FAILED]) and not found.counts[TrialState.COMPLETE]


def print_findings(found: StudySummary, gain: ShownGain | None) -> None:
    """Counts, best value and gain over the default config, with what one run each is worth.

    Args:
        found: The study.
        gain: What `shown_gain` says of it.
    """
    counts = ", ".join(f"{count} {state}" for state, count in found.counts.items() if count)
    typer.echo(f"trials     {counts or 'none'}{f' (budget: {found.budget})' if found.budget else ''}")
    if found.queued:
        one, many = ("waits", "wait") if found.spent else ("is", "are")
        what = "for a larger budget" if found.spent else "trained next"
        typer.echo(f"queued     {found.queued} {f'point {one}' if found.queued == 1 else f'points {many}'} {what}")
    if found.refused:
        points = plural(len(found.refused), "point")
        why = f"`tuner show {found.name} {found.refused[-1]}` says why"
        secho(f"refused    {points} that other Optuna clients queued; {why}", fg="yellow")
    if found.foreign_running:
        runs = "1 trial runs" if found.foreign_running == 1 else f"{found.foreign_running} trials run"
        typer.echo(f"elsewhere  {runs} in another Optuna client")
    if (told := found.foreign_used + found.foreign_ignored) > 0:
        tells = "1 trial was" if told == 1 else f"{told} trials were"
        typer.echo(f"elsewhere  {tells} told of by other Optuna clients; the sampler uses {found.foreign_used}")
        if found.foreign_ignored:
            typer.echo("           and cannot use one without all parameters in range and a finite value")
    metric = metric_name(found.metric)
    if found.best is None:
        none_keeps = found.counts.get(TrialState.COMPLETE, 0) > 0
        typer.echo(f"best       {'none keeps the constraints' if none_keeps else 'no trial is complete yet'}")
        return
    trial, value = found.best
    one_run = ", one run" if gain is not None and gain.kind != "run" else ""
    typer.echo(f"best       {metric} {number(value)}, trial {trial}{one_run}")
    if gain is None:
        typer.echo("default    it has no complete trial")
    else:
        for line in _gain_lines(gain, metric, value):
            typer.echo(line)
    if not value and value == found.default_value and found.metric in ("map", "map50"):
        typer.echo("           nothing is detected yet: give more epochs, or see what is learned in `tuner dashboard`")


def _gain_lines(gain: ShownGain, metric: str, best: float) -> list[str]:
    """The default config's value, unless the line of the best trial has it already, and the gain over it."""
    breaks = f", does not keep {gain.default_breaks}" if gain.default_breaks else ""
    if gain.kind == "run" and gain.default == best and not breaks:
        return [f"gain       none: {gain.why_none}"]
    runs = f"{gain.default_runs} {'fresh seeds' if gain.kind == 'confirmed' else 'runs'}"
    default = f"default    {metric} {number(gain.default)}" + (breaks if gain.kind == "run" else f", mean of {runs}")
    if gain.value is None:
        return [default, f"gain       none: {gain.why_none}"]
    shown = f"gain       {change(gain.value, gain.default)}"
    if gain.at_least is not None:
        sure = f"at least {gain.at_least:+.4f} with {gain.level:.1%}"
        return [default, f"{shown}, trial {gain.trial} in the mean of {runs}: {sure}"]
    of = "one run each" if gain.kind == "run" else f"one run of trial {gain.trial} over that mean"
    return [default, shown, f"           {of}: the best of several noisy runs looks better than it is"]


def print_cost(found: StudySummary) -> None:
    """Epochs, those that pruning saved, and time; what repeats with other seeds cost stands beside it."""
    saved = found.full_epochs - found.epochs
    if saved > 0:
        typer.echo(f"pruning    saved {saved} of {found.full_epochs} epochs ({saved / found.full_epochs:.0%})")
    typer.echo(
        f"cost       {plural(found.epochs, 'epoch')}, {duration(found.cost.seconds)} of training,"
        f" {duration(found.cost.cpu_seconds)} of CPU time"
    )
    if found.repeat_epochs:
        typer.echo(
            f"repeats    {plural(found.repeat_epochs, 'epoch')} with other seeds,"
            f" {duration(found.repeat_cost.seconds)} of training, {duration(found.repeat_cost.cpu_seconds)} of CPU time"
        )


def next_commands(study: Study) -> list[str]:
    """What to type next."""
    storage = storage_option(study.database.url)
    found, trainer = study.summary(), trainer_option(study)
    others = found.counts[TrialState.COMPLETE] - (found.default_value is not None)
    confirmable = others and not study.spec.plan  # which confirms by itself
    return [
        "Next:",
        f"  tuner dashboard{storage}",
        *([f"  tuner confirm {study.name}{storage}{trainer}"] if confirmable else []),
        f"  tuner export {study.name} -o best.yaml{storage}",
        *([] if trainer else ["  tuner train best.yaml -o model/"]),
    ]
