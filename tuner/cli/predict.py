"""`tuner predict`: detections of a trained model on images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from tuner.cli.common import DeviceName, ModelFolder, Overlap, Point, Tile, tiles_of
from tuner.cli.image_progress import image_progress
from tuner.config.errors import ConfigError, DataError, plural


def predict(
    model: ModelFolder,
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE", help="Image files, or folders of them, with the folders in them.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")] = Path("predictions"),
    point: Point = None,
    tile: Tile = None,
    overlap: Overlap = None,
    device: DeviceName = "auto",
    force: Annotated[bool, typer.Option("--force", help="Replace the results in the folder, pictures too.")] = False,
) -> None:
    """Write detections as COCO JSON and draw them, at the model's operating point or another.

    Images that cannot be read are named at the end, with exit code 1; the others have their results.
    """
    from tuner.export.find_images import find_images, picture_names

    paths, notes = find_images(images, apart_from=output)  # before torch is imported
    for note in notes:
        typer.echo(f"note: {note}")
    tiles = tiles_of(tile, overlap)
    drawn, written = output / "drawn", output / "detections.json"
    _check_output(output, drawn, [model, *paths])
    there = [str(path) for path in (written, drawn) if path.exists()]
    if there and not force:
        raise ConfigError(
            f"{' and '.join(there)} hold earlier results",
            hint="Name another folder with -o, or replace these results with --force.",
        )

    from tuner.config.files import writing_folder
    from tuner.data.images import frames, read_image
    from tuner.export import predicting
    from tuner.export.model import load_model
    from tuner.report.pictures import draw_boxes, write_picture
    from tuner.trainers.detection.precision import resolve_device

    loaded = load_model(model, resolve_device(device), point=point)
    output.mkdir(parents=True, exist_ok=True)
    with image_progress() as told:
        found = predicting.predict(loaded, paths, tiles=tiles, told=told)
    each = found.by_image()
    if not each:
        raise _unreadable(found.faults)
    for path, _ in each:
        if (number := frames(path)) > 1:
            typer.echo(f"note: {path} has {number} pictures; only the first is looked at")
    names = picture_names([path for path, _ in each])
    with writing_folder(drawn) as folder:  # earlier results stay until these are there
        fresh = folder / drawn.name
        fresh.mkdir()
        for (path, here), name in zip(each, names, strict=True):
            picture = draw_boxes(read_image(path), here.boxes, here.labels, loaded.classes, here.scores)
            write_picture(picture, fresh, name)
        detections = folder / written.name
        content = json.dumps(predicting.coco_json(found.detections, found.split, loaded.info))
        detections.write_text(content, encoding="utf-8")
        written.unlink(missing_ok=True)  # before its pictures: those of another call must not lie beside it
        if drawn.exists():
            drawn.replace(folder / "earlier")
        fresh.replace(drawn)
        detections.replace(written)
    used = loaded.operating_point
    least = f"{used.confidence:.3f}" + (" (some classes have their own)" if used.class_confidence else "")
    what = f"{plural(len(found.detections.scores), 'detection')} on {plural(len(each), 'image')}"
    typer.echo(f"{what} at confidence {least} and above: {written}, pictures in {drawn}")
    if found.faults:
        raise _unreadable(found.faults)


def _check_output(output: Path, drawn: Path, read: list[Path]) -> None:
    """Refuse an output that cannot be a folder, or that holds what is read where earlier pictures are replaced."""
    for folder in (output, drawn):
        if folder.exists() and not folder.is_dir():
            raise ConfigError(f"-o: {folder} is a file, not a folder", hint="Name another folder with -o.")
    inside = next((path for path in read if path.resolve().is_relative_to(drawn.resolve())), None)
    if inside is not None:
        raise ConfigError(
            f"{inside} is read, but lies in {drawn}, which holds the pictures of the results",
            hint="Name another folder with -o.",
        )


def _unreadable(faults: Sequence[str]) -> DataError:
    return DataError(
        f"{plural(len(faults), 'image')} cannot be read, left out of the results:\n  " + "\n  ".join(faults),
        hint="Replace these files, or leave them out.",
    )
