"""Metrics as text tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len

from tuner.cli.common import number

if TYPE_CHECKING:
    from tuner.evaluation.detail import Detail
    from tuner.export.model import ModelMetrics

_ROWS = (
    ("AP 0.50:0.95 (mAP)", "map"),
    ("AP 0.50", "map50"),
    ("AP 0.75", "map75"),
    ("AP small", "map_small"),
    ("AP medium", "map_medium"),
    ("AP large", "map_large"),
    ("AR, 1 detection", "ar1"),
    ("AR, 10 detections", "ar10"),
    ("AR, 100 detections", "ar100"),
    ("AR small", "ar_small"),
    ("AR medium", "ar_medium"),
    ("AR large", "ar_large"),
)
MANY = 30
"""Classes that are printed, and columns of the widest confusion matrix."""


def metrics_table(found: ModelMetrics, everything: str) -> str:
    """COCO's twelve numbers, AP by class and the numbers at the operating point, with "undefined" for None.

    Args:
        found: The numbers.
        everything: What holds the classes that are left out here, where there are many.
    """
    fewer: list[str] = []
    rows: list[tuple[str, float | None]] = []
    if found.metrics is not None:
        rows += [(label, getattr(found.metrics, name)) for label, name in _ROWS]
        by_class = found.metrics.class_map
        shown = worst(by_class, lambda name: by_class[name])
        rows += [(f"AP of {name}", by_class[name]) for name in shown]
        fewer = left_out(shown, by_class, "of the lowest AP", everything)
    rows += [
        ("precision at the operating point", found.precision),
        ("recall at the operating point", found.recall),
        ("F1 at the operating point", found.f1),
    ]
    width = max(cell_len(label) for label, _ in rows)
    lines = [f"  {k}{_blanks(k, width)}  {'undefined' if v is None else f'{v:.4f}'}" for k, v in rows]
    return "\n".join(lines + fewer)


def worst(classes: Collection[str], value: Callable[[str], float | None]) -> list[str]:
    """The classes in their order, or of many those with the lowest value, which a user will want to mend."""
    if len(classes) <= MANY:
        return list(classes)

    def rank(name: str) -> float:
        found = value(name)
        return math.inf if found is None else found

    return sorted(classes, key=rank)[:MANY]


def left_out(shown: Sequence[str], classes: Collection[str], which: str, everything: str = "--json") -> list[str]:
    """A line on classes that a table leaves out; none where it has all."""
    if len(shown) == len(classes):
        return []
    return [f"  {len(shown)} classes {which}, of {len(classes)}: {everything} has all"]


def detail_table(found: Detail) -> str:
    """Rates by class, counts of each image and confusion, all at the operating point."""
    head = ("", "precision", "recall", "F1", "precision", "recall", "F1")
    weak = worst(found.classes, lambda name: found.classes[name].f1)
    rows = {"all classes together": found.micro, "mean over classes": found.macro}
    rows |= {name: found.classes[name] for name in weak}
    rates = [(name, *(number(getattr(row, column)) for column in type(row).model_fields)) for name, row in rows.items()]
    counts = found.counts
    miscounted = worst(counts.class_mae, lambda name: None if (mae := counts.class_mae[name]) is None else -mae)
    each = [(name, number(counts.class_mae[name]), _signed(counts.class_bias[name])) for name in miscounted]
    total = "" if counts.bias is None else _signed(counts.bias)
    return "\n".join(
        [
            "",
            "At the operating point, at IoU 0.5 and averaged over IoU 0.50:0.95",
            *aligned([head, *rates]),
            *left_out(weak, found.classes, "of the lowest F1 at IoU 0.5"),
            "",
            "Objects counted on each image: mean absolute error, and bias (above 0: too many)",
            *aligned([("all classes together", number(counts.mae), total), *each]),
            *left_out(miscounted, counts.class_mae, "of the largest error"),
            f"  {counts.false_positives_on_negatives} detections on {counts.negatives_with_detections} of "
            f"{counts.negative_images} images without objects",
            "",
            *_confusion([*found.classes, "background"], found.confusion),
        ]
    )


def _signed(value: float | None) -> str:
    return number(None) if value is None else f"{value:+.4f}"


def _confusion(names: Sequence[str], matrix: Sequence[Sequence[int]]) -> list[str]:
    """Lines of a confusion matrix, or of its largest mistakes where it is too wide to be read."""
    if len(names) <= MANY:
        rows = [(name, *map(str, row)) for name, row in zip(names, matrix, strict=True)]
        return ["Confusion: rows the true class, columns the detected one", *aligned([("", *names), *rows])]
    cells = [(count, i, j) for i, row in enumerate(matrix) for j, count in enumerate(row) if count and i != j]
    frequent = sorted(cells, key=lambda cell: -cell[0])[:MANY]
    return [
        f"Confusion: the {len(frequent)} most frequent of {len(cells)} kinds of mistakes; --json has the whole matrix",
        *aligned(
            [("true class", "detected", "times"), *((names[i], names[j], str(count)) for count, i, j in frequent)]
        ),
    ]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table, indented: the first column to the left, all others to the right."""
    widths = [max(cell_len(row[c]) for row in rows) for c in range(len(rows[0]))]
    return [
        f"  {row[0]}{_blanks(row[0], widths[0])}"
        + "".join(f"  {_blanks(v, w)}{v}" for v, w in zip(row[1:], widths[1:], strict=True))
        for row in rows
    ]


def _blanks(text: str, width: int) -> str:
    """What a text lacks to a width on the terminal, where a Chinese character takes two columns."""
    return " " * (width - cell_len(text))
