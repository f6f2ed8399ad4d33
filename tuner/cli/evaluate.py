"""`tuner evaluate`: the COCO metrics of a trained model on any annotated images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tuner.cli.common import (
    AsJson,
    DeviceName,
    ImagesOf,
    ModelFolder,
    OnBadBoxes,
    Overlap,
    Point,
    SplitName,
    Tile,
    tiles_of,
)
from tuner.cli.ground_truth import ground_truth, is_study_file
from tuner.cli.image_progress import image_progress
from tuner.config.errors import plural


def evaluate(
    model: ModelFolder,
    data: Annotated[Path, typer.Option(help="COCO JSON, or a study file.")],
    split: SplitName = "test",
    images: ImagesOf = None,
    on_bad_boxes: OnBadBoxes = None,
    evaluator: Annotated[
        Literal["tuner", "pycocotools"], typer.Option(help="What computes the COCO metrics.")
    ] = "tuner",
    errors: Annotated[
        bool, typer.Option("--errors", help="Say how much AP each kind of error costs, by class and size.")
    ] = False,
    pictures: Annotated[
        Path | None, typer.Option(help="With --errors: folder for the worst false positives and misses.")
    ] = None,
    cost: Annotated[
        bool, typer.Option("--cost", help="Measure time, memory and arithmetic for an image on this device.")
    ] = False,
    point: Point = None,
    tile: Tile = None,
    overlap: Overlap = None,
    device: DeviceName = "auto",
    as_json: AsJson = False,
) -> None:
    """Print COCO metrics, and rates, counts and confusion at the model's operating point or another.

    With --json also precision, recall and F1 at every confidence from 0 to 1, in hundredths.

    Example: `tuner evaluate model/ --data annotations/test.json --errors`
    """
    from tuner.cli.common import print_json
    from tuner.cli.error_tables import cost_table, error_table
    from tuner.cli.tables import detail_table, metrics_table
    from tuner.config.base import Frozen
    from tuner.config.errors import ConfigError

    tiles = tiles_of(tile, overlap)
    if pictures is not None and not errors:
        raise ConfigError("--pictures goes with --errors")
    annotated, boxes = ground_truth(data, split, images, on_bad_boxes, needs_boxes=False)
    if not boxes.clean:
        typer.echo(boxes.text(), err=as_json)

    from tuner.evaluation.detail import detail
    from tuner.evaluation.errors import explain, report
    from tuner.evaluation.oracle import evaluate as evaluate_by_oracle
    from tuner.export.judging import check_classes, cost_of, detect, evaluate_model, trained_on_note
    from tuner.export.model import load_model
    from tuner.postprocess.apply import shown_of
    from tuner.postprocess.matching import TruthIndex
    from tuner.report.error_pictures import draw_worst
    from tuner.trainers.detection.precision import resolve_device

    loaded = load_model(model, resolve_device(device), point=point)
    check_classes(loaded.info, annotated, data)
    if (note := trained_on_note(loaded.info, annotated)) is not None:
        typer.echo(f"note: {note}", err=as_json)
    with image_progress() as told:
        found = detect(loaded, annotated, tiles=tiles, told=told)
    metrics = evaluate_model(
        loaded,
        annotated,
        split if is_study_file(data) else None,
        found,
        evaluate=(lambda found: evaluate_by_oracle(annotated, found)) if evaluator == "pycocotools" else None,
    )
    closer = detail(annotated, TruthIndex(annotated), found, loaded.operating_point)
    parts: dict[str, Frozen] = {"detail": closer}
    tables = [detail_table(closer)]
    if errors:
        parts["errors"] = costs = report(explain(annotated, found))
        tables.append(error_table(costs))
    if pictures is not None:
        shown = shown_of(found, loaded.operating_point, loaded.classes)
        written = draw_worst(explain(annotated, shown), pictures)
        tables.append(f"\n{len(written)} pictures of the worst errors at the operating point in {pictures}")
    if cost:
        parts["cost"] = measured = cost_of(loaded, annotated, tiles=tiles)
        tables.append(cost_table(measured))
    if as_json:
        print_json(
            metrics.model_dump(mode="json") | {name: part.model_dump(mode="json") for name, part in parts.items()}
        )
        return
    typer.echo(f"{plural(len(annotated), 'image')}, {len(annotated.boxes)} boxes")
    typer.echo(metrics_table(metrics, "--json"))
    for table in tables:
        typer.echo(table)
