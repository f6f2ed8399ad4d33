"""What `tuner calibrate` prints: the operating point of each criterion."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tuner.evaluation.calibration import Calibration


def table(found: Calibration) -> str:
    """A line for each criterion, what the columns mean, and the best mAP without a threshold."""
    from tuner.postprocess.operating_point import Merging

    head = ("criterion", "NMS", "IoU (sigma)", "confidence", "precision", "recall", "F1", "±", "count error")
    lines: list[tuple[str, ...]] = [head]
    for name, p in found.points.items():
        if p is None:
            lines.append((name, "no threshold serves it", *[""] * 7))
            continue
        spread = "–" if p.f1_spread is None else f"{p.f1_spread:.3f}"
        values = (p.precision, p.recall, p.f1)
        count = "–" if p.count_error is None else f"{p.count_error:.2f}"
        shown = "–" if p.nms == "none" else f"{p.nms_iou:.2f}"
        lines.append((name, p.nms, shown, f"{p.confidence:.3f}", *(f"{v:.3f}" for v in values), spread, count))
    widths = [max(len(line[i]) for line in lines if line[2] or i == 0) for i in range(len(head))]
    text = ["  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    text.append(
        "Expected on images that did not choose the point (5 folds at most); ±: spread of F1 over folds, –: too few "
        "images, or the limit is not reached on a part of them."
    )
    scores = [row for row in found.rows if row.score is not None]
    if scores:
        best = max(scores, key=lambda row: row.score or 0.0)
        merging = Merging(tiles=best.tiles, nms=best.nms, nms_iou=best.nms_iou).merging
        text.append(f"best mAP {best.score:.4f} with {merging}, no confidence threshold")
    return "\n".join(text)
