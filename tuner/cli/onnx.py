"""`tuner onnx`: a trained model for runtimes without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tuner.cli.common import ModelFolder, Point, refuse_folder
from tuner.config.paths import check_output


def onnx(
    model: ModelFolder,
    output: Annotated[Path, typer.Option("-o", "--output", help="ONNX file to write.")],
    batch: Annotated[int, typer.Option(min=1, help="Images that it takes at a time.")] = 1,
    point: Point = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Write a model as ONNX: letterboxed images in, candidates before suppression out, and what to do with them."""
    refuse_folder(output, "model.onnx")
    check_output(output, force=force)
    from tuner.export.model import load_model
    from tuner.export.onnx_file import METADATA, save_onnx

    loaded = load_model(model, point=point)
    save_onnx(loaded, output, batch=batch, force=force)
    canvas, used = loaded.canvas, loaded.operating_point
    typer.echo(
        f"{output}: {loaded.config.model}, images ({batch}, 3, {canvas.height}, {canvas.width}) uint8 RGB in, boxes, "
        f"scores and labels before suppression out ({used.merging} at confidence {used.confidence:.3f} to follow); "
        f"classes, letterbox and operating point are JSON in its metadata, under {METADATA!r}"
    )
