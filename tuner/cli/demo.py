"""`tuner demo`: a small study on generated scenes, with real training, pruning and mAP."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tuner.cli.options import TrainerPath
from tuner.cli.work import exit_code, work

if TYPE_CHECKING:
    from tuner.config.study import StudySpec

STUDY_FILE = "study.yaml"
TRIALS = 24
WALL_TIME = 170.0
"""Seconds in which trials begin: with what is then finished, a slow machine, too, is done in four minutes."""
EPOCHS = 12
IMAGE_SIZE = 192


def demo(
    folder: Annotated[Path, typer.Option(help="Where to put data, study file and results.")] = Path("tuner-demo"),
    trainer: TrainerPath = None,
) -> None:
    """Generate a small labelled data set and tune a detector on it, in a few minutes on a CPU.

    Called again, it goes on where it stopped.
    """
    from tuner.cli.own_trainer import check_trainer
    from tuner.cli.summary import print_next
    from tuner.config.load import load_study_spec
    from tuner.studies.opening import create_or_open
    from tuner.workers.devices import plan_slots

    check_trainer(trainer)
    file = folder / STUDY_FILE
    if file.exists():
        typer.echo(f"Going on with the demo in {folder} (remove the folder to start anew).")
    else:
        _prepare(folder)
    spec = load_study_spec(file)
    study = create_or_open(spec)
    typer.echo(f"The same from here on: tuner run {shlex.quote(str(file))}")
    report = work(study, plan_slots(spec.device, spec.slots), spec.budget.timeout, trainer)
    print_next(study)
    raise typer.Exit(exit_code(report, study))


def demo_spec(folder: Path) -> StudySpec:
    """Generate the demo's scenes below a folder, and describe its study."""
    from sqlalchemy import URL

    from tuner.config.study import BudgetSpec, StudySpec
    from tuner.data.scenes import generate

    database = URL.create("sqlite", database=str(folder.absolute() / "tuner.db"))  # escapes what is special in a URL
    return StudySpec(
        name="demo",
        data=generate(folder.absolute() / "data", train=128),
        defaults={"model": "dense-tiny", "image_size": IMAGE_SIZE, "epochs": EPOCHS},
        budget=BudgetSpec(trials=TRIALS, wall_time=WALL_TIME),
        storage=database.render_as_string(),
    )


def _prepare(folder: Path) -> None:
    from tuner.config.errors import ConfigError
    from tuner.config.files import unwritable, write_text
    from tuner.config.load import dump_study_spec

    if folder.exists() and (not folder.is_dir() or any(found.name != "data" for found in folder.iterdir())):
        raise ConfigError(f"{folder} is there already and holds no demo", hint="Name another with --folder.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        spec = demo_spec(folder)
    except OSError as error:
        raise unwritable(folder, error) from None
    write_text(folder / STUDY_FILE, dump_study_spec(spec))
    typer.echo(f"Wrote a labelled data set to {folder / 'data'} and a study file to {folder / STUDY_FILE}.")
