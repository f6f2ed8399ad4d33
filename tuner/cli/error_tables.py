"""What errors cost in AP, and what images cost in time, as text tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tuner.cli.common import number
from tuner.cli.tables import aligned, left_out, worst

if TYPE_CHECKING:
    from tuner.evaluation.cost import ImageCost, Timing
    from tuner.evaluation.errors import ErrorReport, Kind


def error_table(found: ErrorReport) -> str:
    """AP50 lost by kind of error, largest first; by class and by size of the object."""
    from tuner.evaluation.errors import KINDS

    kinds = sorted(KINDS, key=lambda kind: -(found.lost[kind] or 0.0))
    rows = [(kind, number(found.lost[kind]), str(found.count[kind]), KINDS[kind]) for kind in kinds]

    costly = worst(found.by_class, lambda name: -sum(lost or 0.0 for lost in found.by_class[name].values()))

    def split_up(shares: Mapping[str, Mapping[Kind, float | None]]) -> list[str]:
        head = ("", *kinds)
        return aligned([head, *((name, *(number(each[kind]) for kind in kinds)) for name, each in shares.items())])

    return "\n".join(
        [
            "",
            f"AP50 {number(found.map50)}, and what would be gained without each kind of error (TIDE; all confidences)",
            *aligned([("", "AP50", "errors", "meaning"), *rows]),
            f"  without any wrong detection {number(found.false_positives)}, "
            f"with nothing missed {number(found.false_negatives)}",
            "",
            "The same, as the share of each class",
            *split_up({name: found.by_class[name] for name in costly}),
            *left_out(costly, found.by_class, "of the largest loss"),
            "",
            "The same, for objects of each size alone",
            *split_up(found.by_size),
        ]
    )


def cost_table(found: ImageCost) -> str:
    """Time for one image and for a batch, size, arithmetic and memory."""
    rows = [("milliseconds, median (90th percentile)", "network", "post-processing", "both")]
    for times in dict.fromkeys((found.single, found.batch)):  # with tiles, both are of one image
        name = "1 image" if times.batch_size == 1 else f"{times.batch_size} images at once"
        rows.append((name, _time(times.network), _time(times.postprocess), _time(times.total)))
    width, height = found.canvas
    memory = "" if found.inference_memory_mb is None else f", {found.inference_memory_mb:.1f} MiB"
    return "\n".join(
        [
            "",
            f"Cost on {found.device}, {found.precision}, {width} x {height} pixels",
            *aligned(rows),
            f"  {found.parameters:,} parameters, {found.multiply_adds / 1e9:.3f} G multiply-adds for an image{memory}",
        ]
    )


def _time(found: Timing) -> str:
    return f"{found.median:.2f} ({found.p90:.2f})"
