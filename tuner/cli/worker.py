"""`tuner worker`: work on studies that another machine has started."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from tuner.cli.coloured import secho
from tuner.cli.common import Storage
from tuner.cli.options import DataHere, Device, Gpus, PerGpu, Slots, Timeout, TrainerPath, device_of, plans_of
from tuner.cli.work import exit_code, work

if TYPE_CHECKING:
    from tuner.studies.state.records import StudySummary


def worker(
    study: Annotated[
        str | None,
        typer.Option("--study", help="Name of the study.", show_default="all with budget left, by their priority"),
    ] = None,
    data: DataHere = None,
    storage: Storage = None,
    timeout: Timeout = None,
    device: Device = None,
    slots: Slots = None,
    gpus: Gpus = None,
    per_gpu: PerGpu = None,
    trainer: TrainerPath = None,
) -> None:
    """Work on studies from any machine that reaches their database and has their data.

    Without a study, takes those that have budget left, highest priority first, until none is left. One that is paused
    meanwhile is left for the next until it is resumed; one whose last trials others run is taken again at the end.

    Example: `tuner worker --study cells --data /data/cells --storage postgresql://host/name`
    """
    from tuner.cli.own_trainer import check_trainer
    from tuner.cli.summary import print_next
    from tuner.cli.supervise import supervised
    from tuner.config.errors import DataError, DeviceError, StudyError
    from tuner.storage.sqlite_files import require_database
    from tuner.studies.opening import open_study

    check_trainer(trainer)
    require_database(storage)  # one without studies may get some: a worker may be there first
    deadline = time.monotonic() + timeout if timeout else None
    asked = device_of(device, gpus)
    foreign: tuple[type[Exception], ...] = (DataError,) if asked else (DataError, DeviceError)

    def on_one(name: str, elsewhere: Callable[[], bool] | None = None) -> tuple[str, int]:
        opened = open_study(name, storage, data_root=data)
        try:
            left = None if deadline is None else max(0.1, deadline - time.monotonic())
            report = work(opened, plans_of(opened.spec, asked, slots, per_gpu), left, trainer, elsewhere)
            print_next(opened)
            return report.reason, exit_code(report, opened)
        finally:
            opened.close()

    def on_all(first: bool) -> int:
        tried: set[str] = set()
        postponed: set[str] = set()
        failed = 0
        while (name := _next(storage, tried | postponed) or _next(storage, tried)) is not None:
            try:
                reason, code = on_one(name, partial(_others_wait, storage, tried | postponed | {name}))
                if reason != "elsewhere":
                    tried.add(name)
                elif not _is_paused(name, storage):  # that waits for its resumption, not for the others
                    postponed.add(name)
            except StudyError as error:  # it was deleted meanwhile
                tried.add(name)
                secho(str(error), fg="yellow", err=True)
                continue
            except foreign as error:
                tried.add(name)
                secho(f"study {name!r} is left to other workers: {error}", fg="yellow", err=True)
                continue
            failed += code and reason in ("failed", "finished")
            # A failure may be its study's own; two are this host's.
            if reason not in ("failed", "finished", "elsewhere", "stopped") or failed == 2:
                return code
        _print_rest(storage, tried | postponed)
        return 1 if failed else 0

    raise typer.Exit(supervised(on_all if study is None else lambda first: on_one(study)[1], storage))


def _next(storage: str | None, but: set[str]) -> str | None:
    """The study to work on: of those with budget left the first by priority, then by age."""
    from tuner.studies.reading import list_studies

    ready = [found for found in list_studies(storage) if found.name not in but and _has_work(found)]
    return min(ready, key=lambda found: (-found.priority, found.created_at)).name if ready else None


def _is_paused(name: str, storage: str | None) -> bool:
    from tuner.studies.reading import list_studies

    return any(found.control for found in list_studies(storage) if found.name == name)


def _others_wait(storage: str | None, but: set[str]) -> bool:
    """Whether other studies have work, as far as the database can say now."""
    from tuner.config.errors import StorageError

    try:
        return _next(storage, but) is not None
    except StorageError:
        return False


def _has_work(found: StudySummary) -> bool:
    from tuner.studies.state.records import TrialState

    return not found.control and not found.problem and (found.spent is None or found.counts[TrialState.INTERRUPTED] > 0)


def _print_rest(storage: str | None, tried: set[str]) -> None:
    """Why no study is worked on any more."""
    from tuner.storage.urls import masked, resolve, storage_option
    from tuner.studies.reading import list_studies

    studies, there = list_studies(storage), storage_option(resolve(storage))
    for found in studies:
        if found.control:
            why = f": {found.control_reason}" if found.control_reason else ""
            typer.echo(f"study {found.name!r} is {found.control}{why}; go on: tuner resume {found.name}{there}")
        elif found.problem:
            typer.echo(f"study {found.name!r} has ended: {found.problem}")
    if not tried:
        none = "No study has budget left" if studies else "No studies yet"
        typer.echo(f"{none} in {masked(resolve(storage))}.")
