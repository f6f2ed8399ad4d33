"""`tuner show`: the trials of a study, or one of them in full."""

from __future__ import annotations

import math
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tuner.cli.coloured import secho
from tuner.cli.common import AsJson, Storage, StudyName, duration, metric_name, metric_number, number, print_json
from tuner.cli.fitting import print_table
from tuner.config.objective import Constraint, Objective

if TYPE_CHECKING:
    from tuner.config.study import StudySpec
    from tuner.studies.reading import StudyReader
    from tuner.studies.state.records import AttemptRecord, TrialRecord


def show(
    study: StudyName,
    trial: Annotated[int | None, typer.Argument(metavar="TRIAL", help="Number of a trial.", show_default="all")] = None,
    storage: Storage = None,
    curves: Annotated[Path | None, typer.Option(help="Draw all learning curves into this file, png or svg.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show the trials of a study, or one trial with its config, epochs and attempts."""
    from rich.table import Table

    from tuner.config.errors import ConfigError
    from tuner.evaluation.named import value_of
    from tuner.studies.reading import read_study
    from tuner.studies.state.control import no_trial

    if trial is not None and curves is not None:
        raise ConfigError("--curves draws all trials of a study", hint="Leave the trial's number out.")
    with closing(read_study(study, storage)) as opened:
        metric = metric_name(opened.spec.objective.metric)
        if trial is not None:
            found = opened.trials(numbers=[trial])
            if not found:
                raise no_trial(study, trial, sum(opened.summary().counts.values()))
            if as_json:
                print_json(trial_json(found[0]))
            else:
                _print_trial(found[0], metric)
            return
        further = _further_metrics(opened.spec)
        trials = opened.trials(epochs=as_json or curves is not None or bool(further))
        if curves is not None:
            _draw(opened, trials, curves)
            typer.echo(f"wrote {curves}", err=as_json)
    if as_json:
        print_json([trial_json(record) for record in trials])
        return
    names = list(dict.fromkeys(name for record in trials for name in record.params))
    table = Table(title=f"study {study}", title_justify="left")
    for column in ("trial", "state", metric, *map(metric_name, further), "epochs", *names):
        table.add_column(column, justify="left" if column == "state" else "right")
    for record in trials:
        table.add_row(
            f"{record.number}{' (default)' if record.is_default else ''}",
            record.state + (f": {record.kind}" if record.kind else ""),
            metric_number(metric, record.value),
            *(metric_number(name, value_of(name, record.metrics) if record.metrics else None) for name in further),
            f"{record.last_epoch}/{record.config.epochs}",
            *(_value(record.params.get(name, "")) for name in names),
        )
    print_table(table)


def _further_metrics(spec: StudySpec) -> list[str]:
    """Metrics of several objectives and of constraints, beside the one that the table has anyway."""
    names = [name for text in spec.objectives for name in Objective.parse(text).names]
    names += [Constraint.parse(text).name for text in spec.constraints]
    return [name for name in dict.fromkeys(names) if name != spec.objective.metric]


def _draw(study: StudyReader, trials: list[TrialRecord], path: Path) -> None:
    from tuner.config.errors import ConfigError
    from tuner.report.learning_curves import Curve, draw_study_curves
    from tuner.studies.state.records import TrialState

    if path.suffix not in (".png", ".svg"):
        raise ConfigError(f"--curves {path}: its name must end in .png or .svg")
    best = study.best()
    draw_study_curves(
        [
            Curve(
                record.number,
                [epoch.epoch for epoch in record.epochs],
                [math.nan if epoch.value is None else epoch.value for epoch in record.epochs],
                record.state == TrialState.COMPLETE,
            )
            for record in trials
        ],
        path,
        metric=metric_name(study.spec.objective.metric),
        best=best.number if best else None,
        default=next((record.number for record in trials if record.is_default), None),
        title=study.name,
    )


def trial_json(trial: TrialRecord) -> dict[str, Any]:
    """A trial as JSON: all that the database knows of it."""
    from dataclasses import asdict

    data = {name: getattr(trial, name) for name in trial.__dataclass_fields__}
    data["config"] = trial.config.model_dump(mode="json")
    data["cost"] = asdict(trial.cost)
    data["epochs"] = [asdict(epoch) | {"metrics": epoch.metrics.model_dump(mode="json")} for epoch in trial.epochs]
    data["attempts"] = [asdict(attempt) for attempt in trial.attempts]
    data["exports"] = [asdict(export) for export in trial.exports]
    point = trial.operating_point
    data["operating_point"] = point.model_dump(mode="json") if point else None
    return data


def print_config(trial: TrialRecord) -> None:
    """What the sampler chose, and the operating point."""
    for name, value in trial.params.items():
        typer.echo(f"  {name}: {_value(value)}")
    if point := trial.operating_point:
        typer.echo(
            f"operating point: {point.merging}, confidence {point.confidence:.3g}"
            f" (precision {point.precision:.3f}, recall {point.recall:.3f}, F1 {point.f1:.3f})"
        )


def _print_trial(trial: TrialRecord, metric: str) -> None:
    from rich.table import Table

    secho(f"trial {trial.number}{' (default config)' if trial.is_default else ''}: {trial.state}", bold=True)
    if trial.reason:
        typer.echo(trial.reason)
    print_config(trial)
    typer.echo("config:")
    for name, value in trial.config.model_dump(mode="json").items():
        parts = {f"{name}.{key}": part for key, part in value.items()} if isinstance(value, dict) else {name: value}
        for dotted, part in parts.items():
            typer.echo(f"  {dotted}: {part}")
    table = Table()
    for column in ("epoch", metric, "AP50", "learning rate", "losses", "train s", "eval s"):
        table.add_column(column, justify="right")
    for epoch in trial.epochs:
        losses = ", ".join(f"{name} {number(loss)}" for name, loss in epoch.losses.items())
        table.add_row(
            str(epoch.epoch), number(epoch.value), number(epoch.metrics.map50), f"{epoch.learning_rate:.3g}", losses,
            f"{epoch.train_seconds:.1f}", f"{epoch.eval_seconds:.1f}",
        )  # fmt: skip
    if trial.epochs:
        print_table(table)
    for attempt in trial.attempts:
        _print_attempt(attempt)
    for export in trial.exports:
        typer.echo(f"exported {_time(export.exported_at)} to {export.path} on {export.host}")


def _print_attempt(attempt: AttemptRecord) -> None:
    typer.echo(
        f"attempt {attempt.number}: {attempt.host}, process {attempt.pid}, {attempt.device},"
        f" {duration(attempt.seconds)}, {attempt.outcome or 'running'}"
        + (f": {attempt.message}" if attempt.message else "")
    )
    until = f" until {_time(attempt.ended_at)}" if attempt.ended_at else ""
    memory = f", at most {attempt.peak_memory / 2**20:.0f} MiB" if attempt.peak_memory else ""
    typer.echo(f"  from {_time(attempt.started_at)}{until}, {duration(attempt.cpu_seconds)} of CPU time{memory}")
    commit = f", commit {attempt.commit}" if attempt.commit else ""
    typer.echo(f"  {', '.join(f'{name} {version}' for name, version in attempt.versions.items())}{commit}")


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S%z")


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
