"""What `tuner init` has seen of a data set, and what it proposes for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from tuner.cli.fitting import print_table
from tuner.cli.tables import MANY

if TYPE_CHECKING:
    from tuner.data.coco import Dataset
    from tuner.data.survey import Survey
    from tuner.studies.proposal.propose import Proposal


def print_survey(dataset: Dataset, numbers: Survey, proposal: Proposal, notes: tuple[str, ...]) -> None:
    """Counts, sizes and classes of a data set, notes on it, and what is proposed for it, each with its reason."""
    from rich.table import Table

    table = Table("split", title="Data set", title_justify="left")
    for heading in ("images", "without objects", "boxes", "crowd", "bad boxes"):
        table.add_column(heading, justify="right")
    for split in numbers.splits:
        report = dataset.reports[split.name]
        bad = report.outside + report.without_area + report.doubled
        table.add_row(split.name, *(f"{n:,}" for n in (split.images, split.empty, split.boxes, split.crowd, bad)))
    print_table(table)

    shown, which = _shown_classes(numbers)
    table = Table("class", title="Boxes by class", title_justify="left")
    for split in numbers.splits:
        table.add_column(split.name, justify="right")
    for index in shown:
        table.add_row(numbers.classes[index], *(f"{split.class_boxes[index]:,}" for split in numbers.splits))
    print_table(table)
    if which:
        typer.echo(which)

    width, height = numbers.width, numbers.height
    sizes = "all of one size" if numbers.shapes == 1 else f"{numbers.shapes} different sizes"
    typer.echo(
        f"images   {_range(width)} x {_range(height)} px, {sizes}\n"
        f"objects  median {numbers.median_object:.1%} of the longer side, a tenth below {numbers.small_object:.1%}"
    )
    if sum(map(bool, numbers.train.class_boxes)) > 1:
        typer.echo(f"balance  the most frequent class has {numbers.imbalance:.1f} times the boxes of the rarest")
    for report in dataset.reports.values():
        if not report.clean:
            typer.echo(report.text())
    for note in notes:
        typer.echo(f"note: {note}")
    typer.echo("\nSuggested")
    pruner = {f"pruner.{name}": choice for name, choice in proposal.pruner.items()}
    for field, choice in (proposal.defaults | pruner).items():
        typer.echo(f"  {field} {choice.value}: {choice.reason}")


def _shown_classes(numbers: Survey) -> tuple[list[int], str]:
    """Indices of the classes that are printed, and of many which these are; notes name those without boxes."""
    boxes = numbers.train.class_boxes
    if len(boxes) <= MANY:
        return list(range(len(boxes))), ""
    known = sorted((index for index, count in enumerate(boxes) if count), key=lambda index: -boxes[index])
    if len(known) <= MANY:
        return known, f"Of {len(boxes)} classes those that train has"
    half = MANY // 2
    which = f"Of {len(boxes)} classes the {half} most frequent and the {half} rarest in train"
    return known[:half] + known[-half:], which


def _range(spread: tuple[int, int, int]) -> str:
    low, median, high = spread
    return f"{low}" if low == high else f"{low}…{high} (median {median})"
