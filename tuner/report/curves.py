"""The precision–recall curve of a split's detections, with the operating point on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tuner.postprocess.curve import Curve
from tuner.postprocess.operating_point import OperatingPoint
from tuner.report.figures import BLUE, RED, save, small_figure

_MOST_POINTS = 500


def draw_precision_recall(curve: Curve, point: OperatingPoint | None, path: Path) -> Path:
    """Draw the curve (all classes together), the lines of equal F1 and, where there is one, the operating point.

    The mark lies on the curve at the point's confidence; the legend says what is expected there on other images.
    """
    figure, axes = small_figure("recall", "precision", width=4.4, height=3.8)
    for f1 in (0.2, 0.4, 0.6, 0.8):
        recall = np.linspace(f1 / (2 - f1), 1.0, 50)
        axes.plot(recall, f1 * recall / (2 * recall - f1), color="#dddddd", linewidth=0.7)
        axes.annotate(f"F1 {f1}", (1.0, f1 / (2 - f1)), fontsize=6, color="#999999", ha="right")
    if curve.positives and len(curve.thresholds):
        thin = np.unique(np.linspace(0, len(curve.thresholds) - 1, _MOST_POINTS).astype(np.int64))
        axes.plot(curve.recall[thin], curve.precision[thin], color=BLUE)
    chosen = curve.at(point.confidence) if point is not None else None
    if point is not None and chosen is not None:
        label = f"confidence {point.confidence:.3f}, {point.merging}\nexpected F1 {point.f1:.3f}"
        axes.plot([chosen.recall], [chosen.precision], "o", color=RED, label=label, clip_on=False)
        # Above the axes: the point of a weak model lies low, that of a good one high, and either may be in a corner.
        axes.legend(fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    return save(figure, path)
