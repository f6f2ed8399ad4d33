"""Options of the commands that train, and what their values mean."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tuner.config.counts import MAX_SLOTS

if TYPE_CHECKING:
    from tuner.config.study import StudySpec
    from tuner.workers.devices import SlotPlan


def _seconds(text: str) -> float:
    """What `--timeout` means.

    Raises:
        ConfigError: It is no duration.
    """
    from tuner.config.errors import ConfigError
    from tuner.config.load import parse_duration

    try:
        return parse_duration(text)
    except ConfigError as error:
        raise ConfigError(f"--timeout: {error.message}", hint=error.hint) from None


Timeout = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        metavar="DURATION",
        parser=_seconds,
        help="Stop after this wall time, such as 90s, 30m or 1h30m; running trials save their state.",
    ),
]
Device = Annotated[
    str | None, typer.Option(help="auto, cpu, cuda or cuda:N.", show_default="the study file's, else auto")
]
Slots = Annotated[
    int | None,
    typer.Option(
        min=1, max=MAX_SLOTS, help="Trials at the same time.", show_default="one for each GPU, or for each CPU core"
    ),
]
Gpus = Annotated[
    str | None,
    typer.Option(metavar="N", help="How many GPUs to use, or which, as in 0,1,3 (one: `2,`).", show_default="all"),
]
PerGpu = Annotated[
    str | None,
    typer.Option(
        "--per-gpu",
        metavar="N|auto",
        help="Trials at the same time on each GPU; auto: as many as fit and raise the throughput.",
        show_default="1",
    ),
]
DataHere = Annotated[
    Path | None,
    typer.Option("--data", help="Folder of the data set here.", show_default="where it was when the study began"),
]
TrainerPath = Annotated[
    str | None,
    typer.Option(
        "--trainer",
        metavar="MODULE:NAME",
        help="Your own training, as `tuner.trainers.contract` describes it.",
        show_default="the built-in trainer",
    ),
]


def device_of(device: str | None, gpus: str | None) -> str | None:
    """The device that `--device` and `--gpus` (so many, or a list of numbers) mean; None where neither was given.

    Raises:
        ConfigError: Both were given.
    """
    from tuner.config.errors import ConfigError

    if gpus is None:
        return device
    if device is not None:
        raise ConfigError(f"--device {device} and --gpus {gpus}: give one of them")
    if gpus.isdecimal() and int(gpus) > 0:
        return f"cuda:{','.join(map(str, range(int(gpus))))}"
    return f"cuda:{gpus.removesuffix(',')}"


def plans_of(spec: StudySpec, device: str | None, slots: int | None, per_gpu: str | None) -> list[SlotPlan]:
    """The slots of this machine, by the options `Slots` and `PerGpu` where they are given, else as the study says.

    Args:
        spec: Of the study.
        device: Instead of the study's; None: that one.
        slots: Value of `--slots`.
        per_gpu: Value of `--per-gpu`.

    Raises:
        ConfigError: The options make no sense, or not together.
        DeviceError: The device is not there.
    """
    from tuner.workers.devices import plan_slots

    count = slots or (None if per_gpu else spec.slots)
    return plan_slots(device or spec.device, count, per_gpu=_per_gpu(per_gpu))


def _per_gpu(text: str | None) -> int | Literal["auto"] | None:
    """What `--per-gpu` means.

    Raises:
        ConfigError: It is no number above 0 and not auto.
    """
    from tuner.config.errors import ConfigError

    if text is None or text == "auto":
        return "auto" if text else None
    if not text.isdecimal() or not 1 <= int(text) <= MAX_SLOTS:
        raise ConfigError(f"--per-gpu is {text!r}, expected a number from 1 to {MAX_SLOTS}, or auto")
    return int(text)
