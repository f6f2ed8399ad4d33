"""`tuner anchors`: the anchor sets of every recipe for a data set, and how well they fit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tuner.cli.common import AsJson, print_json
from tuner.cli.fitting import print_table
from tuner.cli.ground_truth import images_folder, is_study_file

if TYPE_CHECKING:
    from tuner.config.trial import AnchorSizes, TrialConfig
    from tuner.data.split import Split
    from tuner.models.anchor_fit import AnchorFit
    from tuner.models.anchors import Recipe
    from tuner.models.catalog import Family

_MEASURES = {
    "Mean best IoU": "mean_iou",
    "Best possible recall at IoU 0.5": "recall_iou",
    "Best possible recall at ratio 4": "recall_ratio",
}


def anchors(
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="Study file, COCO JSON of the training split, or a folder of both.")
    ],
    k: Annotated[
        int | None, typer.Option("-k", min=1, help="Anchors in all.", show_default="as in the default set")
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(
            "--image-size", min=32, max=4096, help="Longer side in pixels.", show_default="the study's, or 320"
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Detector.", show_default="the study's, or dense-tiny")
    ] = None,
    recipe: Annotated[
        list[str] | None, typer.Option("--recipe", help="Only this recipe; may be given several times.")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Draw the sets into this png or svg.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show the k-means anchors of a data set and how well they fit, beside the detector's default anchors."""
    from tuner.config.errors import ConfigError
    from tuner.data.letterbox import canvas_for
    from tuner.models.anchor_fit import fit_anchors
    from tuner.models.anchors import letterboxed_sizes, make_anchors
    from tuner.models.catalog import family

    if output is not None and output.suffix not in (".png", ".svg"):
        raise ConfigError(f"-o: {output} is neither a png nor an svg", hint="Use a name such as anchors.png.")
    train, config, notes = _load(data)
    kind = family(model or config.model)
    if not kind.has_anchors:
        raise ConfigError(f"--model: {kind.name} has no anchors", hint="Choose another detector with --model.")
    canvas = canvas_for(train.sizes, image_size or config.image_size)
    sizes, labels = letterboxed_sizes(train, canvas)
    sets = {
        name: make_anchors(made_by, kind, sizes, labels, canvas)
        for name, made_by in {"default": _recipe("default"), **_recipes(recipe or [], k, kind)}.items()
    }
    fits = {name: fit_anchors(made, train, canvas) for name, made in sets.items()}
    if output is not None:
        from tuner.report.anchor_plot import draw_anchor_sets

        output.parent.mkdir(parents=True, exist_ok=True)
        draw_anchor_sets(sizes, labels, train.classes, sets, output)
    if as_json:
        from dataclasses import asdict

        result = {name: {"anchors": made, "fit": asdict(fits[name])} for name, made in sets.items()}
        print_json(
            {"model": kind.name, "canvas": list(canvas), "strides": kind.strides, "sets": result, "notes": notes}
        )
        return
    for note in notes:
        typer.echo(note)
    typer.echo(f"{len(sizes)} boxes of {len(train)} images in a canvas of {canvas.width} x {canvas.height} pixels")
    _print(kind, sets, fits)
    if output is not None:
        typer.echo(f"drawn in {output}")


def _load(data: Path) -> tuple[Split, TrialConfig, list[str]]:
    """The training split, the study's default config where there is one, and what is to be said of the data."""
    from tuner.config.errors import DataError
    from tuner.config.load import base_config, load_study_spec
    from tuner.config.trial import TrialConfig
    from tuner.data.annotation_files import split_files
    from tuner.data.annotations import read_annotations
    from tuner.data.coco import load_split
    from tuner.space.load import load_space

    notes: list[str] = []
    if is_study_file(data):
        spec = load_study_spec(data)
        split, report = load_split(spec.data, "train")
        config = load_space(spec.space).default_config(base_config(spec))
    else:
        if not data.exists():
            raise DataError(f"{data} does not exist", hint="Name a study file, a COCO JSON, or a folder of both.")
        files, _ = split_files([data], remedy="Name the COCO JSON of the training split itself.")
        file = files["train"]
        notes = [f"boxes of {file}"] if data.is_dir() else []
        # The pictures are not needed, only their sizes, which COCO files hold.
        images = images_folder(file, None, otherwise=file.absolute().parent)
        split, report = read_annotations(file, images, name="train", on_bad_boxes="repair")
        config = TrialConfig()
    return split, config, notes if report.clean else [*notes, report.text()]


def _recipes(names: list[str], k: int | None, kind: Family) -> dict[str, Recipe]:
    """The recipes to show: those asked for, or every kind, with k anchors in all where the name says no number."""
    from dataclasses import replace

    from tuner.config.errors import ConfigError
    from tuner.models.anchors import RECIPES

    levels = len(kind.strides)
    if k is not None and k % levels:
        raise ConfigError(
            f"-k: {k} anchors cannot be shared evenly by the {levels} levels of {kind.name}",
            hint=f"Use a multiple of {levels}, such as {max(1, round(k / levels)) * levels}.",
        )
    per_level = k // levels if k is not None else None
    if names:
        chosen = {name: _recipe(name) for name in names}
    else:
        chosen = {name: made_by for name, made_by in RECIPES.items() if made_by.distance and made_by.per_level is None}
    for name, made_by in chosen.items():
        if per_level is not None and made_by.per_level not in (None, per_level):
            raise ConfigError(
                f"-k: {k} anchors were asked for, but {name} has {made_by.per_level} for each of {levels} levels",
                hint=f"Leave -k out, or use -k {made_by.per_level * levels}.",
            )
    return {name: replace(made_by, per_level=made_by.per_level or per_level) for name, made_by in chosen.items()}


def _recipe(name: str) -> Recipe:
    from tuner.models.anchors import recipe

    return recipe(name)


def _print(kind: Family, sets: dict[str, AnchorSizes], fits: dict[str, AnchorFit]) -> None:
    from rich import box
    from rich.table import Table

    for title, measure in _MEASURES.items():
        table = Table(title=f"{title}, anchors of {kind.name}", title_justify="left", box=box.SIMPLE_HEAD)
        table.add_column("\nboxes", no_wrap=True)
        first = next(iter(fits.values()))
        for group, fit in (("all", first.all), *first.by_size.items()):
            table.add_column(f"{group}\n{fit.boxes}", justify="right")
        for name, found in fits.items():
            values = [getattr(fit, measure) for fit in (found.all, *found.by_size.values())]
            table.add_row(name, *("–" if value is None else f"{value:.3f}" for value in values))
        print_table(table)
    for name, levels in sets.items():
        typer.echo(f"{name}:")
        for stride, level in zip(kind.strides, levels, strict=True):
            typer.echo(f"  stride {stride:>3}: " + "  ".join(f"{w:.1f} x {h:.1f}" for w, h in level))
