"""`tuner calibrate`: the best operating points of a trained detector, whoever trained it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from tuner.cli.ground_truth import ground_truth, is_study_file
from tuner.cli.image_progress import image_progress
from tuner.config.errors import ConfigError, nearest, plural
from tuner.config.paths import check_output

if TYPE_CHECKING:
    from tuner.config.trial import Tiles
    from tuner.data.split import Split
    from tuner.evaluation.calibration import Calibration
    from tuner.models.predictions import RawPredictions

_UNSUPPRESSED = ("greedy", "greedy-voting")
"""Kinds of NMS that raw predictions are tried with, where none are asked for."""


@dataclass(frozen=True, eq=False)
class _Predictions:
    """What is to be judged.

    Attributes:
        raw: The predictions.
        kept: Detections that are kept of each image.
        remedy: What keeps more of them.
        kinds: Of NMS to try, where none are asked for.
        tiles: What the predictions were made from.
        notes: What a reader should know of them, each a sentence.
    """

    raw: RawPredictions
    kept: int
    remedy: str
    kinds: tuple[str, ...]
    tiles: Tiles
    notes: list[str]


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
    annotated, boxes = ground_truth(data, split, images, on_bad_boxes, needs_images=is_model)
    if not boxes.clean:
        typer.echo(boxes.text(), err=as_json)

    from tuner.data.crowded import crowded_notes
    from tuner.evaluation.calibration import CRITERIA
    from tuner.evaluation.calibration import calibrate as compute
    from tuner.evaluation.coco import CocoEvaluator
    from tuner.evaluation.doubts import doubts

    if is_model:
        given = _of_model(source, annotated, data, device, tiles)
        for note in given.notes if as_json else ():
            typer.echo(f"note: {note}", err=True)
    else:
        given = _of_results(source, annotated, max_detections)
    evaluator = CocoEvaluator(annotated)
    crowded = crowded_notes([annotated], given.kept, given.remedy)
    notes = [*doubts(given.raw, annotated, evaluator.truth), *given.notes, *crowded]
    if not as_json:  # said even if there is no point to be found
        predictions = plural(len(given.raw.scores), "prediction")
        typer.echo(f"{plural(len(annotated), 'image')}, {len(annotated.boxes)} boxes, {predictions}")
        for note in notes:
            typer.echo(f"note: {note}")
    found = compute(
        evaluator,
        given.raw,
        kinds=list(dict.fromkeys(nms or given.kinds)),  # type: ignore[arg-type]  # checked above
        criteria=tuple(dict.fromkeys((*CRITERIA, criterion))),
        tiles=given.tiles,
        max_detections=given.kept,
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
    picture = output.with_suffix(".png")
    for path in (output, picture):
        check_output(path, force=force)
    return picture


def _check_source(source: Path) -> None:
    """Refuse what is neither a folder nor JSON, which results of any toolkit are."""
    expected = "a folder that `tuner train` wrote, or a COCO results JSON"
    if not source.exists():
        raise ConfigError(f"{source} does not exist; expected {expected}", hint="Check the path.")
    if is_study_file(source):
        raise ConfigError(
            f"{source} is no model and holds no detections; expected {expected}",
            hint=f"An exported config is trained first: tuner train {source} -o model/; then: tuner calibrate model/",
        )


def _of_model(folder: Path, annotated: Split, data: Path, device: str, tiles: Tiles | None) -> _Predictions:
    """What a trained model predicts on annotated images; notes say what speaks against these."""
    from tuner.export.judging import check_classes, trained_on_note
    from tuner.export.model import load_model
    from tuner.export.predicting import predict_raw
    from tuner.trainers.detection.precision import resolve_device

    model = load_model(folder, resolve_device(device))
    check_classes(model.info, annotated, data)
    note, tiles = trained_on_note(model.info, annotated), tiles or model.operating_point.tiles
    with image_progress() as told:
        raw = predict_raw(model, annotated, tiles=tiles, told=told)
    remedy, notes = f"raise `max_detections` in the YAML file in {folder}", [note] if note else []
    return _Predictions(raw, model.config.max_detections, remedy, _UNSUPPRESSED, tiles, notes)


def _of_results(file: Path, annotated: Split, max_detections: int | None) -> _Predictions:
    """The results of any toolkit; notes say what they cannot tell."""
    import numpy as np

    from tuner.config.trial import WHOLE
    from tuner.evaluation.results import limits, read_results, suppressed_at

    raw = read_results(file, annotated)
    at = suppressed_at(raw)
    kept = max_detections or max(1, int(np.diff(raw.offsets).max(initial=0)))
    kinds = _UNSUPPRESSED if at is None else ("none", "greedy")
    return _Predictions(raw, kept, "raise --max-detections", kinds, WHOLE, limits(raw, annotated, at))


def _write(found: Calibration, criterion: str, output: Path, picture: Path, source: Path, *, force: bool) -> list[Path]:
    from tuner.export.yaml_files import write_yaml
    from tuner.report.threshold_map import draw_threshold_maps

    chosen = found.points[criterion]
    if chosen is None:
        if not len(found.rows[0].hits.scores):
            raise ConfigError(f"no threshold serves {criterion}: there are no detections")
        raise ConfigError(
            f"no threshold serves {criterion}: its limit is never reached",
            hint="Lower the limit, choose another --criterion, or look at the predictions with --criterion f1.",
        )
    header = [f"Operating point of {source}, chosen by {criterion}.", "Thresholds apply to the scores after NMS."]
    write_yaml(chosen, output, header, force=force)
    return [output, draw_threshold_maps(found, chosen, picture)]
