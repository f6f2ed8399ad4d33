"""`tuner init`: look at a data set and write a study file for it."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tuner.cli.common import DeviceName, refuse_folder
from tuner.config.counts import IMAGE_SIZES
from tuner.config.errors import ConfigError, DataError, TunerError

if TYPE_CHECKING:
    from tuner.config.study import DataSpec
    from tuner.data.coco import Dataset
    from tuner.data.find_splits import FoundData


def init(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="DIR", help="Folder of a COCO, YOLO or Pascal VOC data set: images and annotations are found in it."
        ),
    ] = None,
    images: Annotated[
        Path | None, typer.Option("--images", help="Folder of the images.", show_default="found in DIR")
    ] = None,
    annotations: Annotated[
        list[Path] | None,
        typer.Option(
            "--annotations",
            help="COCO JSON file, or a folder with such files; give it several times for several splits. "
            "One file alone is divided into training and validation.",
            show_default="found in DIR",
        ),
    ] = None,
    val: Annotated[Path | None, typer.Option("--val", help="Validation split, where its name does not say so.")] = None,
    test: Annotated[Path | None, typer.Option("--test", help="Test split, where its name does not say so.")] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Detector.", show_default="a dense one that suits the device")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            help="What it starts from: none, default (torchvision's), a file, or a model that `tuner train` wrote.",
            show_default="default where the detector has some that can be fetched, else none",
        ),
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(
            "--image-size",
            help="Longer side of what the detector sees, in pixels.",
            show_default="what the objects and the device ask for",
            min=IMAGE_SIZES[0],
            max=IMAGE_SIZES[1],
        ),
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="The study file.")] = Path("study.yaml"),
    name: Annotated[str | None, typer.Option("--name", help="Name of the study.", show_default="the folder's")] = None,
    device: DeviceName = "auto",
    on_bad_boxes: Annotated[
        Literal["refuse", "repair"] | None,
        typer.Option(
            help="What to do with boxes outside their image or without area; repair clips or drops them, and copies.",
            show_default="repair, but refuse where all would fit as [x1, y1, x2, y2]",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there already.")] = False,
) -> None:
    """Look at a data set and write a study file that runs as it is."""
    from tuner.cli.survey_report import print_survey
    from tuner.config.files import writing_folder
    from tuner.config.load import base_config, load_study_spec
    from tuner.config.weights import NAMED, require_weights, weights_file
    from tuner.data.alike import alike_notes
    from tuner.data.crowded import crowded_notes
    from tuner.data.doubled import nearly_doubled_notes
    from tuner.data.few import empty_class_notes, few_notes
    from tuner.data.find_splits import find_data
    from tuner.data.image_checks import turn_notes
    from tuner.data.narrow_range import narrow_range_notes
    from tuner.data.survey import survey
    from tuner.data.unseen import unseen_notes
    from tuner.models.catalog import check_pretrained
    from tuner.space.load import load_space
    from tuner.studies.proposal.propose import propose
    from tuner.studies.proposal.study_file import study_file
    from tuner.workers.devices import plan_slots

    refuse_folder(output, "study.yaml")
    images, annotations = _places(folder, images, annotations)
    _refuse_nothing_to_train_on(annotations, val, test)
    study_name = name or _name(output, folder or images)
    _check_name(study_name)
    if weights is not None and weights not in NAMED:
        file = weights_file(Path(weights).absolute())
        require_weights(file)
        model = model or _trained_model(file)
        weights = str(file)
    if model is not None:
        check_pretrained(model, weights or "none")
    slots = plan_slots(device)
    parent = output.absolute().parent
    output.parent.mkdir(parents=True, exist_ok=True)
    typer.echo("Reading the data set …", err=True)  # a large one takes a minute or more
    found = find_data(images, annotations, val, test, stem=output.with_suffix(""))
    _refuse_overwriting([output, *found.files], [*annotations, *found.read], force)
    with writing_folder(output.absolute()) as unchecked:  # the files that are there stay
        dataset = _load(found, on_bad_boxes or "repair", unchecked)
        if on_bad_boxes is None:
            _refuse_corners(found.data, dataset)
        files = [split.images_dir / name for split in dataset.splits for name in split.file_names]
        seen = (*turn_notes(files), *narrow_range_notes(files), *alike_notes(dataset.train, dataset.val))
        doubled = nearly_doubled_notes(dataset.val)
        numbers = survey(dataset)
        cuda = slots[0].device == "cuda"
        proposal = propose(
            dataset, numbers, cuda=cuda, slots=len(slots), model=model, weights=weights, image_size=image_size
        )
        text = study_file(study_name, found.data, dataset.reports, proposal, folder=parent, device=device)
        written = unchecked / output.name
        written.write_text(text, encoding="utf-8")
        spec = load_study_spec(written)
        load_space(spec.space).default_config(base_config(spec))
        for path in (*found.files, output):
            (unchecked / path.name).replace(path)
    config = base_config(spec)
    unseen = unseen_notes(dataset.train, config.image_size)
    crowded = crowded_notes((dataset.train, dataset.val), config.max_detections, "raise `max_detections`")
    few = (*few_notes(numbers), *empty_class_notes(numbers))
    print_survey(
        dataset, numbers, proposal, (*found.notes, *dataset.warnings, *doubled, *few, *seen, *unseen, *crowded)
    )
    typer.echo()
    for path in found.files:
        typer.echo(f"wrote {path}")
    typer.echo(f"wrote {output}: each choice has its reason in a comment")
    typer.echo(f"\nNext: tuner run {shlex.quote(str(output))}")
    if cuda:
        typer.echo("  with --per-gpu auto several trials share the GPU, as far as that pays")


def _places(folder: Path | None, images: Path | None, annotations: list[Path] | None) -> tuple[Path, list[Path]]:
    """The folder of the images, or one above it, and the annotation files, or a folder with them."""
    if folder is None and (images is None or not annotations):
        raise ConfigError(
            "no data set is named",
            hint="Give its folder, as in `tuner init data`, or both --images and --annotations.",
        )
    if folder is not None and folder.is_file():
        raise ConfigError(
            f"{folder} is a file, not the folder of a data set",
            hint="Give an annotation file as --annotations, with the folder of its images as --images.",
        )
    return images or folder or Path(), annotations or [folder or Path()]


def _trained_model(file: Path) -> str | None:
    """The detector that a file of `tuner train` holds, by the config beside it; None of other files.

    Raises:
        ConfigError: It holds one, and nothing says which.
    """
    from tuner.config.weights import CONFIG, detector_in, holds_detector

    trained = detector_in(file)
    if trained is None and holds_detector(file):
        raise ConfigError(
            f"--weights: {file} holds a detector, but no {CONFIG} beside it says which one", hint="Add --model."
        )
    return trained


def _refuse_nothing_to_train_on(annotations: list[Path], val: Path | None, test: Path | None) -> None:
    """Refuse a file that is named as a split of its own and as all that there is to train on."""
    for option, path in (("--val", val), ("--test", test)):
        if path is not None and all(file.resolve() == path.resolve() for file in annotations):
            raise ConfigError(
                f"--annotations and {option} name the same file, {path}: nothing is left to train on",
                hint=f"Leave {option} out to have a part of the images put aside, or name another file.",
            )


def _refuse_overwriting(paths: list[Path], read: list[Path], force: bool) -> None:
    sources = {path.resolve() for path in read}
    own = [str(path) for path in paths if path.resolve() in sources]
    if own:
        raise ConfigError(f"-o: {', '.join(own)} would be overwritten, but is read", hint="Use another -o.")
    there = [str(path) for path in paths if path.exists()]
    if there and not force:
        raise ConfigError(f"{', '.join(there)} is there already", hint="Use another -o, or --force to overwrite.")


def _refuse_corners(data: DataSpec, dataset: Dataset) -> None:
    """Refuse boxes that are likely to be [x1, y1, x2, y2]: repaired, they would be other boxes."""
    for split in dataset.splits:
        report = dataset.reports[split.name]
        if report.corners:
            asked = report.model_copy(update={"clipped": 0, "dropped": 0})  # what they are to be, and nothing is yet
            raise DataError(
                f"{getattr(data, split.name)}: {asked.text()}",
                hint="Write width and height instead of x2 and y2; if they are that, --on-bad-boxes repair goes on.",
            )


def _load(found: FoundData, on_bad_boxes: str, folder: Path) -> Dataset:
    """The data set, with the annotation files that are to be made written to a folder, from where they can be moved."""
    from tuner.data.coco import load_dataset

    changes: dict[str, object] = {"on_bad_boxes": on_bad_boxes}
    for path, content in found.files.items():
        (folder / path.name).write_text(json.dumps(content), encoding="utf-8")
        changes |= {role: folder / path.name for role in ("train", "val", "test") if getattr(found.data, role) == path}
    try:
        return load_dataset(found.data.model_copy(update=changes))
    except TunerError as error:
        raise type(error)(error.message.replace(str(folder), str(folder.parent)), hint=error.hint) from None


def _name(output: Path, images: Path) -> str:
    """The study file's own name where it says something, else that of the data set's folder."""
    folder = images.absolute()
    candidates = [output.stem if output.stem != "study" else "", folder.name, folder.parent.name]
    words = [re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._") for text in candidates]
    return next((word for word in words if word and word not in ("images", "data")), "study")


def _check_name(name: str) -> None:
    from tuner.config.study import is_study_name

    if not is_study_name(name):
        raise ConfigError(
            f"{name!r} cannot be the name of a study", hint="Use letters, digits, '.', '_' and '-', as in cells-2."
        )
