"""`tuner worker`: join a study that another machine has started."""

from __future__ import annotations

from typing import Annotated

import typer

from tuner.cli.common import Storage
from tuner.cli.run import TIMEOUT_HELP, Device, Gpus, PerGpu, Slots, TrainerPath, device_of, work


def worker(
    study: Annotated[str, typer.Option("--study", help="Name of the study.")],
    storage: Storage = None,
    timeout: Annotated[str | None, typer.Option(help=TIMEOUT_HELP)] = None,
    device: Device = None,
    slots: Slots = None,
    gpus: Gpus = None,
    per_gpu: PerGpu = None,
    trainer: TrainerPath = None,
) -> None:
    """Join a study from any machine that reaches its database and has its data."""
    from tuner.config.load import parse_duration
    from tuner.studies.study import open_study
    from tuner.workers.devices import plan_slots

    seconds = parse_duration(timeout) if timeout else None
    opened = open_study(study, storage)
    plans = plan_slots(
        device_of(device, gpus) or opened.spec.device,
        slots or (None if per_gpu else opened.spec.slots),
        per_gpu=per_gpu,
    )
    raise typer.Exit(work(opened, plans, seconds, trainer))
