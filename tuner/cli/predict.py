"""`tuner predict`: detections of a trained model on images."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Annotated

import typer

from tuner.cli.common import Overlap, Tile, tiles_of
from tuner.config.errors import ConfigError, DataError


def predict(
    model: Annotated[Path, typer.Argument(help="Folder that `tuner train` wrote.")],
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")] = Path("predictions"),
    tile: Tile = None,
    overlap: Overlap = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Replace the results in the folder, pictures too.")] = False,
) -> None:
    """Write detections as COCO JSON and draw them, at the model's operating point.

    Images that cannot be read are named at the end, with exit code 1; the others have their results.
    """
    from tuner.export.find_images import find_images, picture_names

    paths, notes = find_images(images)  # before torch is imported
    for note in notes:
        typer.echo(f"note: {note}")
    tiles = tiles_of(tile, overlap)
    drawn, written = output / "drawn", output / "detections.json"
    there = [str(path) for path in (written, drawn) if path.exists()]
    if there and not force:
        raise ConfigError(
            f"{' and '.join(there)} hold earlier results",
            hint="Name another folder with -o, or replace these results with --force.",
        )

    from tuner.data.images import frames, read_image
    from tuner.export.model import load_model
    from tuner.export.predicting import coco_json, predict_shown, unlabelled_split
    from tuner.report.pictures import draw_boxes, encode
    from tuner.trainers.detection.precision import resolve_device

    where = resolve_device(device)
    loaded = load_model(model, where)
    split, faults = unlabelled_split(paths, loaded.info)
    paths = [Path(name) for name in split.file_names]
    for path in paths:
        if (number := frames(path)) > 1:
            typer.echo(f"note: {path} has {number} pictures; only the first is looked at")
    if not paths:
        raise _unreadable(faults)
    detections = predict_shown(loaded, split, where, tiles=tiles)
    if drawn.exists():
        shutil.rmtree(drawn)
    drawn.mkdir(parents=True)
    written.write_text(json.dumps(coco_json(detections, split, loaded.info)), encoding="utf-8")
    names = picture_names(paths)
    for i, path in enumerate(paths):
        mine = slice(detections.offsets[i], detections.offsets[i + 1])
        picture = draw_boxes(
            read_image(path), detections.boxes[mine], detections.labels[mine], loaded.classes, detections.scores[mine]
        )
        (drawn / names[i]).write_bytes(encode(picture))
    typer.echo(
        f"{len(detections.scores)} detections on {len(paths)} images at confidence "
        f"{loaded.operating_point.confidence:.3f} and above: {written}, pictures in {drawn}"
    )
    if faults:
        raise _unreadable(faults)


def _unreadable(faults: list[str]) -> DataError:
    return DataError(
        f"{len(faults)} images cannot be read and have no results:\n  " + "\n  ".join(faults),
        hint="Replace these files, or leave them out.",
    )
