"""What several commands share: options, and numbers in words."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from tuner.config.alive import Activity
    from tuner.config.trial import Tiles, TrialConfig
    from tuner.data.coco import Dataset

LINE_SECONDS = 60.0
"""Between a line about an epoch and the next that says how far the epoch is, where there is no terminal."""

Storage = Annotated[
    str | None,
    typer.Option(
        "--storage",
        show_default="TUNER_STORAGE in the environment, else SQLite in ./tuner-studies",
        help="Database URL, such as sqlite:///FILE or postgresql://HOST/NAME.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Tile = Annotated[
    int | None,
    typer.Option(
        "--tile",
        help="See each image also in tiles of so many pixels, for small objects; 0: only whole.",
        show_default="as the model's operating point says",
    ),
]
Overlap = Annotated[
    float | None,
    typer.Option("--overlap", help="With --tile: part of a tile that it shares with the next one.", show_default="0.2"),
]
Point = Annotated[
    Path | None,
    typer.Option(
        "--point", help="File of an operating point, as `tuner calibrate` writes it.", show_default="the model's own"
    ),
]
OnBadBoxes = Annotated[
    Literal["refuse", "repair"] | None,
    typer.Option(
        help="What to do with boxes outside their image or without area; repair clips or drops them, and copies.",
        show_default="as the study file says; refuse for a COCO JSON",
    ),
]
SplitName = Annotated[Literal["train", "val", "test"], typer.Option("--split", help="Split of a study file.")]
ImagesOf = Annotated[
    Path | None,
    typer.Option(
        "--images", help="Folder of a COCO JSON's images.", show_default="images beside the file or beside its folder"
    ),
]
DeviceName = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
ModelFolder = Annotated[Path, typer.Argument(metavar="MODEL", help="Folder that `tuner train` wrote.")]
StudyName = Annotated[str, typer.Argument(metavar="STUDY", help="Name of the study.")]


def tiles_of(size: int | None, overlap: float | None) -> Tiles | None:
    """What the options `Tile` and `Overlap` ask for; None: as the model says.

    Raises:
        ConfigError: A value is out of range, or there is an overlap without tiles.
    """
    from pydantic import ValidationError

    from tuner.config.errors import ConfigError
    from tuner.config.trial import Tiles

    if size is None:
        if overlap is not None:
            raise ConfigError("--overlap goes with --tile")
        return None
    try:
        return Tiles(size=size) if overlap is None else Tiles(size=size, overlap=overlap)
    except ValidationError as error:
        found = error.errors()[0]
        option = {"size": "--tile"}.get(str(found["loc"][0]), "--overlap")
        raise ConfigError(f"{option} {found['input']}: {found['msg'].removeprefix('Value error, ')}") from None


def refuse_folder(output: Path, example: str) -> None:
    """Check that `-o` names a file.

    Args:
        output: What it names.
        example: Name of a file, for the hint.

    Raises:
        ConfigError: It is a folder.
    """
    from tuner.config.errors import ConfigError

    if output.is_dir():
        raise ConfigError(f"-o: {output} is a folder, not a file", hint=f"Name a file, such as {output / example}.")


def print_json(value: Any) -> None:
    """Print a value as indented JSON; paths and enums as text."""
    ascii_only = not (sys.stdout.encoding or "").lower().startswith("utf")
    typer.echo(json.dumps(value, indent=2, ensure_ascii=ascii_only, default=str))


def print_notes(dataset: Dataset, config: TrialConfig) -> None:
    """Print on stderr what is doubtful about a data set, and stops nothing, for training a config on it.

    Raises:
        DataError: No object can be seen at its image size.
    """
    from tuner.data.crowded import crowded_notes
    from tuner.data.unseen import unseen_notes

    unseen = unseen_notes(dataset.train, config.image_size)
    remedy = "raise `max_detections` under `defaults` in the study file"
    crowded = crowded_notes((dataset.train, dataset.val), config.max_detections, remedy)
    for note in (*dataset.warnings, *unseen, *crowded):
        typer.echo(f"note: {note}", err=True)


def metric_name(metric: str) -> str:
    """A metric as the field writes it."""
    return "mAP" if metric == "map" else metric


def number(value: float | None) -> str:
    """A metric for a table: four digits, or a dash where it is undefined."""
    return "–" if value is None else f"{value:.4f}"


def metric_number(name: str, value: float | None) -> str:
    """A metric by its name: a count without digits behind the point, any other as `number` has it."""
    return f"{value:.0f}" if name == "parameters" and value is not None else number(value)


def duration(seconds: float | None) -> str:
    """A time span for a reader: 42 s, 3 min 05 s, 2 h 10 min, 1 d 04 h."""
    if seconds is None:
        return "–"
    total = max(0, round(seconds))
    if total < 60:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60} min {total % 60:02d} s"
    if total < 86400:
        return f"{total // 3600} h {total % 3600 // 60:02d} min"
    return f"{total // 86400} d {total % 86400 // 3600:02d} h"


def share_done(done: int, total: int, what: Activity) -> str:
    """How far something is within an epoch (`tuner.config.alive.SignOfLife`), as in "training 61%"; without, at 0."""
    return f"{what} {100 * done // total}%" if done else what


def count_done(done: int, total: int, what: Activity) -> str:
    """The same with its count, as in "training 61% (61 of 100)"."""
    share = share_done(done, total, what)
    return f"{share} ({done} of {total})" if done else share


def gain(value: float, default: float | None, direction: str) -> str:
    """How much better a value is than the default config's, negative where worse; empty where that is unknown."""
    if default is None:
        return ""
    return change(value - default if direction == "maximize" else default - value, default)


def change(difference: float, default: float) -> str:
    """A difference from a value, and its share of that."""
    relative = f", {difference / abs(default):+.1%}" if default else ""
    return f"{difference:+.4f}{relative}"
