"""`tuner calibrate`: the best operating points of a trained detector, whoever trained it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tuner.cli.calibration_table import table
from tuner.cli.common import (
    AsJson,
    ImagesOf,
    OnBadBoxes,
    Overlap,
    SplitName,
    Tile,
    print_json,
    refuse_folder,
    tiles_of,
)
from tuner.cli.image_progress import image_progress
from tuner.config.errors import ConfigError, nearest

if TYPE_CHECKING:
    from tuner.config.trial import Tiles
    from tuner.data.bad_boxes import BoxReport
    from tuner.data.split import Split
    from tuner.evaluation.calibration import Calibration
    from tuner.models.predictions import RawPredictions


def calibrate(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE", help="Folder that `tuner train` wrote, or a COCO results JSON of any toolkit."
        ),
    ],
    data: Annotated[
        Path | None, typer.Option(help="Ground truth: COCO JSON, or a study file.", show_default="required")
    ] = None,
    split: SplitName = "val",
    images: ImagesOf = None,
    on_bad_boxes: OnBadBoxes = None,
    nms: Annotated[
        list[str] | None,
        typer.Option(
            help="Kind of NMS to try; may be repeated: greedy, greedy-voting, greedy-agnostic, diou, soft-linear, "
            "soft-gaussian, wbf, none.",
            show_default="greedy and greedy-voting; greedy and none where suppressed already",
        ),
    ] = None,
    criterion: Annotated[
        str, typer.Option(help="What the written point serves: f1, count, recall@precision=X, precision@recall=X.")
    ] = "f1",
    tile: Tile = None,
    overlap: Overlap = None,
    per_class: Annotated[bool, typer.Option("--per-class", help="Choose a threshold for each class.")] = False,
    max_detections: Annotated[
        int | None,
        typer.Option(
            min=1, show_default="all", help="Detections kept for each image; for results, a model has its own."
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Where to write the point; the picture lies beside it as PNG.")
    ] = Path("operating-point.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Replace the files.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N; for a model folder.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Find NMS and confidence thresholds for the common criteria, from one set of predictions.

    Example: `tuner calibrate results.json --data annotations/val.json`
    """
    from typing import get_args

    from tuner.config.trial import NmsKind
    from tuner.postprocess.curve import Criterion

    Criterion.parse(criterion)
    for kind in nms or ():
        if kind not in get_args(NmsKind):
            raise ConfigError(f"--nms: {kind!r} is no kind of NMS", hint=nearest(kind, get_args(NmsKind)))
    picture = _picture_beside(output, force=force)
    is_model = source.is_dir()
    _check_source(source)
    if data is None:
        raise ConfigError(
            f"no ground truth to judge {source} by", hint="Name a COCO JSON, or a study file, with --data."
        )
    tiles = tiles_of(tile, overlap)
    if tiles is not None and not is_model:
        raise ConfigError("--tile goes with a model folder; results were made from tiles or not")
    if max_detections is not None and is_model:
        raise ConfigError(
            "--max-detections goes with results; a model keeps as many as its config says",
            hint=f"Change `max_detections` in the YAML file in {source}; no training is needed.",
        )
    annotated, boxes = _ground_truth(data, split, images, on_bad_boxes, needs_images=is_model)
    if not boxes.clean:
        typer.echo(boxes.text(), err=as_json)

    import numpy as np

    from tuner.config.trial import WHOLE
    from tuner.data.crowded import crowded_notes
    from tuner.evaluation.calibration import CRITERIA
    from tuner.evaluation.calibration import calibrate as compute
    from tuner.evaluation.coco import CocoEvaluator
    from tuner.evaluation.doubts import doubts
    from tuner.evaluation.results import limits, read_results, suppressed_at

    if is_model:
        raw, most, tiles, notes = _predict(source, annotated, data, device, tiles)
        suppressed = False
        for note in notes if as_json else ():
            typer.echo(f"note: {note}", err=True)
    else:
        raw = read_results(source, annotated)
        most = max(1, int(np.diff(raw.offsets).max(initial=0)))
        at = suppressed_at(raw)
        notes, suppressed = limits(raw, annotated, at), at is not None
    evaluator = CocoEvaluator(annotated)
    kept = max_detections or most
    remedy = f"raise `max_detections` in the YAML file in {source}" if is_model else "raise --max-detections"
    crowded = crowded_notes([annotated], kept, remedy)
    notes = doubts(raw, annotated, evaluator.truth) + notes + crowded
    if not as_json:  # said even if there is no point to be found
        typer.echo(f"{len(annotated)} images, {len(annotated.boxes)} boxes, {len(raw.scores)} predictions")
        for note in notes:
            typer.echo(f"note: {note}")
    kinds = list(dict.fromkeys(nms or (["none", "greedy"] if suppressed else ["greedy", "greedy-voting"])))
    found = compute(
        evaluator,
        raw,
        kinds=kinds,  # type: ignore[arg-type]  # checked above
        criteria=tuple(dict.fromkeys((*CRITERIA, criterion))),
        tiles=tiles or WHOLE,
        max_detections=kept,
        per_class=per_class,
    )
    if not as_json:
        for warning in found.warnings:
            typer.echo(f"note: {warning}")
        typer.echo(table(found))
    written = _write(found, criterion, output, picture, source, force=force)
    if as_json:
        print_json(
            {
                "points": {name: p.model_dump(mode="json") if p else None for name, p in found.points.items()},
                "map": [{"nms": r.nms, "nms_iou": r.nms_iou, "map": r.score} for r in found.rows],
                "notes": [*notes, *found.warnings],
                "files": [str(path) for path in written],
            }
        )
        return
    typer.echo(f"written by {criterion}: {', '.join(map(str, written))}")
    if is_model:
        typer.echo(f"Next: tuner predict {shlex.quote(str(source))} IMAGE… --point {shlex.quote(str(output))}")


def _picture_beside(output: Path, *, force: bool) -> Path:
    """Where the picture lies; refuses a file that cannot be written, or must not be replaced."""
    refuse_folder(output, "operating-point.yaml")
    if output.suffix.lower() == ".png":
        raise ConfigError(
            f"-o: {output} is where the picture would lie, beside a YAML file of that name",
            hint=f"Name the YAML file, such as {output.with_suffix('.yaml')}.",
        )
    if not output.parent.is_dir():
        raise ConfigError(f"-o: there is no folder {output.parent}", hint="Make it first, or name another file.")
    picture = output.with_suffix(".png")
    for path in (output, picture):
        if path.exists() and not force:
            raise ConfigError(f"{path} exists", hint="Name another file with -o, or replace it with --force.")
    return picture


def _check_source(source: Path) -> None:
    """Refuse what is neither a folder nor JSON, which results of any toolkit are."""
    expected = "a folder that `tuner train` wrote, or a COCO results JSON"
    if not source.exists():
        raise ConfigError(f"{source} does not exist; expected {expected}", hint="Check the path.")
    if source.suffix in (".yaml", ".yml"):
        raise ConfigError(
            f"{source} is no model and holds no detections; expected {expected}",
            hint=f"An exported config is trained first: tuner train {source} -o model/; then: tuner calibrate model/",
        )


def _ground_truth(
    data: Path,
    which: Literal["train", "val", "test"],
    images: Path | None,
    on_bad_boxes: Literal["refuse", "repair"] | None,
    *,
    needs_images: bool,
) -> tuple[Split, BoxReport]:
    from tuner.cli.evaluate import images_folder
    from tuner.config.load import load_study_spec
    from tuner.data.annotations import read_annotations
    from tuner.data.coco import load_split

    if data.suffix in (".yaml", ".yml"):
        if images is not None:
            raise ConfigError("--images goes with a COCO JSON; a study file names its images itself")
        spec = load_study_spec(data).data
        return load_split(spec.model_copy(update={"on_bad_boxes": on_bad_boxes or spec.on_bad_boxes}), which)
    folder = images_folder(data, images, otherwise=None if needs_images else data.parent)
    return read_annotations(data, folder, name=data.stem, on_bad_boxes=on_bad_boxes or "refuse")


def _predict(
    folder: Path, annotated: Split, data: Path, device: str, tiles: Tiles | None
) -> tuple[RawPredictions, int, Tiles, list[str]]:
    """Predictions of a model, how many are kept of an image, how images are cut, and what speaks against the images."""
    from tuner.export.judging import check_classes, trained_on_note
    from tuner.export.model import load_model
    from tuner.export.predicting import predict_raw
    from tuner.trainers.detection.precision import resolve_device

    model = load_model(folder, resolve_device(device))
    check_classes(model.info, annotated, data)
    tiles = tiles or model.operating_point.tiles
    note = trained_on_note(model.info, annotated)
    with image_progress() as told:
        raw = predict_raw(model, annotated, tiles=tiles, told=told)
    return raw, model.config.max_detections, tiles, [note] if note else []


def _write(found: Calibration, criterion: str, output: Path, picture: Path, source: Path, *, force: bool) -> list[Path]:
    from tuner.export.yaml_files import write_yaml
    from tuner.report.threshold_map import draw_threshold_maps

    chosen = found.points[criterion]
    if chosen is None:
        hits = found.rows[0].hits
        if not len(hits.scores):
            raise ConfigError(f"no threshold serves {criterion}: there are no detections")
        raise ConfigError(
            f"no threshold serves {criterion}: its limit is never reached",
            hint="Lower the limit, choose another --criterion, or look at the predictions with --criterion f1.",
        )
    header = [f"Operating point of {source}, chosen by {criterion}.", "Thresholds apply to the scores after NMS."]
    write_yaml(chosen, output, header, force=force)
    return [output, draw_threshold_maps(found, chosen, picture)]
