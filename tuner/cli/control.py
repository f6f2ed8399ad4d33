"""`tuner stop`, `tuner pause` and `tuner resume`: orders to all workers of a study, from any machine."""

from __future__ import annotations

from typing import Annotated

import typer

from tuner.cli.common import Storage, StudyName

Reason = Annotated[str, typer.Option(help="Why, for whoever watches the workers.")]


def stop(
    study: StudyName,
    trial: Annotated[int | None, typer.Argument(metavar="TRIAL", help="Number of a trial.", show_default="all")] = None,
    reason: Reason = "",
    storage: Storage = None,
) -> None:
    """Stop a study, its confirmation included, or end one of its trials with the value that it has reached.

    Workers of a stopped study save their trials and end; `tuner resume` or `tuner run` lets it go on, and
    `tuner confirm` its confirmation alone. With a trial, its runs with fresh seeds end, too.
    """
    from tuner.studies.opening import open_study

    opened = open_study(study, storage)
    if trial is None:
        opened.stop(reason)
        typer.echo(f"Stopped study {study!r}: its workers save their trials with the next heartbeat and end.")
    elif opened.stop_trial(trial):
        typer.echo(f"What was left of trial {trial} has ended as pruned.")
    else:
        typer.echo(f"What is left of trial {trial} ends as pruned, with the next heartbeat of its worker.")
    opened.close()


def pause(study: StudyName, reason: Reason = "", storage: Storage = None) -> None:
    """Pause a study: its workers, and those that confirm it, save their trials, free their devices and wait.

    `tuner resume` lets them go on.
    """
    from tuner.config.errors import StudyError
    from tuner.storage.urls import storage_option
    from tuner.studies.opening import open_study

    opened = open_study(study, storage)
    paused = opened.pause(reason)
    opened.close()
    if not paused:
        command = f"tuner resume {study}{storage_option(opened.database.url)}"
        raise StudyError(f"study {study!r} is stopped", hint=f"Let it go on first, with: {command}")
    typer.echo(f"Paused study {study!r}: its workers save their trials with the next heartbeat and wait.")


def resume(study: StudyName, storage: Storage = None) -> None:
    """Let a study go on that was paused or stopped; workers of a paused one go on by themselves."""
    from tuner.storage.urls import storage_option
    from tuner.studies.opening import open_study
    from tuner.studies.state.records import TrialState

    opened = open_study(study, storage)
    before = opened.orders().control
    heard_of = opened.summary().counts[TrialState.RUNNING] > 0
    opened.resume()
    opened.close()
    worker = f"`tuner worker --study {study}{storage_option(opened.database.url)}`"
    if heard_of:
        typer.echo(f"Study {study!r} goes on.")
    elif before == "paused":  # a worker that waits holds no trial, by which it could be heard of
        typer.echo(f"Study {study!r} goes on with the workers that wait for it; where none does, start {worker}.")
    else:
        typer.echo(f"Study {study!r} goes on once a worker is started: `tuner run` with its study file, or {worker}.")
