"""`tuner train`: the production model from an exported config."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tuner.cli.coloured import secho
from tuner.cli.common import DeviceName
from tuner.config.counts import MAX_SEED
from tuner.config.errors import plural

if TYPE_CHECKING:
    from tuner.data.fingerprint import Fingerprint
    from tuner.export.production import ProductionConfig
    from tuner.export.training_plan import Plan


def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="File that `tuner export` wrote.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the model.")],
    epochs: Annotated[int | None, typer.Option(min=1, help="Full training length.", show_default="the study's")] = None,
    data: Annotated[Literal["train", "train+val"], typer.Option(help="What to train on.")] = "train",
    seed: Annotated[int | None, typer.Option(min=0, max=MAX_SEED, help="Seed.", show_default="the trial's")] = None,
    device: DeviceName = "auto",
) -> None:
    """Train the production model; called again after Ctrl-C, it goes on where it stopped."""
    from tuner.export.yaml_files import load_production

    production = load_production(config)  # before torch is imported: a typo is answered at once

    from tuner.cli.epochs import EpochProgress
    from tuner.export.training import train_production
    from tuner.export.training_plan import finish, make_plan
    from tuner.trainers.contract import Interrupted, LostState
    from tuner.trainers.detection.precision import resolve_device
    from tuner.workers.devices import available_cores
    from tuner.workers.interrupts import Interrupts

    resolve_device(device)  # before the folder is made
    found = _compare_data(production)
    plan = make_plan(production, output, epochs=epochs, seed=seed, part=data, data=found)
    _explain(plan)
    typer.echo(f"Training {plan.config.model}: {plural(plan.config.epochs, 'epoch')} on {plan.part}.")
    try:
        with Interrupts() as interrupts, EpochProgress(plan.config.epochs, judged=data == "train") as progress:
            judged = train_production(
                plan,
                device=device,
                threads=available_cores(),
                stop_requested=lambda: interrupts.requested,
                on_epoch=progress.show,
                alive=progress.alive,
            )
    except LostState as error:
        raise LostState(error.message, hint="Give the same command again.") from error
    except Interrupted:
        typer.echo(f"Stopped; the state is saved in {output}. The same command goes on from there.")
        raise typer.Exit(130) from None
    if judged is None:
        secho(
            "The data set has no test split and val was trained on: nothing is left to judge the model by. "
            "metrics.json holds no numbers.",
            fg="yellow",
        )
    else:
        from tuner.cli.tables import metrics_table
        from tuner.export.model import METRICS, PICTURES
        from tuner.report.evidence import draw_evidence

        draw_evidence(judged.found, plan.operating_point, judged.split, output / PICTURES)
        if judged.metrics.split == "val":
            secho(
                "The data set has no test split. These numbers are of val, by which the config was chosen: "
                "expect less on new images.",
                fg="yellow",
            )
        typer.echo(f"On the {judged.metrics.split} split:")
        typer.echo(metrics_table(judged.metrics, str(output / METRICS)))
    finish(plan)
    typer.echo(f"Model in {output}. Next: tuner predict {shlex.quote(str(output))} IMAGE…")


def _compare_data(production: ProductionConfig) -> Fingerprint:
    """Say what is doubtful about the data set, and in what it is not the one that the config was found on.

    Returns:
        Its fingerprint.
    """
    from tuner.cli.common import print_notes
    from tuner.data.coco import load_dataset
    from tuner.data.fingerprint import fingerprint

    source = production.provenance
    dataset = load_dataset(source.data)
    print_notes(dataset, production.config)
    found = fingerprint(source.data, dataset)
    differences = source.fingerprint.differences(found, dataset) if source.fingerprint is not None else []
    if differences:
        secho(f"The data set is not the one of study {source.study}:", fg="yellow")
        for difference in differences:
            secho(f"  {difference}", fg="yellow")
    return found


def _explain(plan: Plan) -> None:
    if trainer := plan.production.provenance.own_trainer:
        secho(f"The config was found with the trainer {trainer}; the built-in one trains it here.", fg="yellow")
    asked, chosen = plan.config.epochs, plan.production.config.epochs
    if asked != chosen:
        secho(
            f"Training {plural(asked, 'epoch')} where the study trained {chosen}: warm-up, learning-rate schedule and "
            f"the end of mosaic are laid out for {asked}. The config and its thresholds were chosen at {chosen}; "
            "check them on the result.",
            fg="yellow",
        )
    if plan.part == "train+val":
        secho(
            "Training on train + val: only the test split can judge this model, at the end. The thresholds are the "
            "study's.",
            fg="yellow",
        )
