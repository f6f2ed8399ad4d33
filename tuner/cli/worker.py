"""`tuner worker`: work on studies that another machine has started."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from tuner.cli.common import Storage
from tuner.cli.options import TIMEOUT_HELP, Device, Gpus, PerGpu, Slots, TrainerPath, device_of, per_gpu_of
from tuner.cli.work import exit_code, work


def worker(
    study: Annotated[
        str | None,
        typer.Option("--study", help="Name of the study.", show_default="all with budget left, by their priority"),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Folder of the data set here.", show_default="where it was when the study began"),
    ] = None,
    storage: Storage = None,
    timeout: Annotated[str | None, typer.Option(help=TIMEOUT_HELP)] = None,
    device: Device = None,
    slots: Slots = None,
    gpus: Gpus = None,
    per_gpu: PerGpu = None,
    trainer: TrainerPath = None,
) -> None:
    """Work on studies from any machine that reaches their database and has their data.

    Without a study, takes those that have budget left, highest priority first, until none is left.
    """
    from tuner.cli.summary import print_next
    from tuner.cli.supervise import supervised
    from tuner.config.errors import DataError
    from tuner.config.load import parse_duration
    from tuner.studies.study import open_study
    from tuner.workers.devices import plan_slots

    deadline = time.monotonic() + parse_duration(timeout) if timeout else None

    def begin(first: bool) -> int:
        tried: set[str] = set()
        while (name := study or _next(storage, tried)) is not None:
            opened = open_study(name, storage, data_root=data)
            left = None if deadline is None else max(0.1, deadline - time.monotonic())
            plans = plan_slots(
                device_of(device, gpus) or opened.spec.device,
                slots or (None if per_gpu else opened.spec.slots),
                per_gpu=per_gpu_of(per_gpu),
            )
            try:
                code = exit_code(work(opened, plans, left, trainer), opened)
                print_next(opened)
            except DataError as error:
                if study is not None:
                    raise
                typer.secho(f"study {name!r} is left to other workers: {error}", fg="yellow", err=True)
                code = 0
            finally:
                opened.close()
            if study is not None or code or (deadline is not None and time.monotonic() >= deadline):
                return code
            tried.add(name)
        if not tried:
            typer.echo("No study has budget left.")
        return 0

    raise typer.Exit(supervised(begin))


def _next(storage: str | None, tried: set[str]) -> str | None:
    """The study to work on: of those with budget left the first by priority, then by age."""
    from tuner.studies.study import TrialState, list_studies

    ready = [
        found
        for found in list_studies(storage)
        if found.name not in tried
        and not found.control
        and not found.problem
        and (found.spent is None or found.counts[TrialState.INTERRUPTED])
    ]
    return min(ready, key=lambda found: (-found.priority, found.created_at)).name if ready else None
