"""Anchors drawn over the sizes of the training boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter
from numpy.typing import NDArray

from tuner.config.trial import AnchorSizes, TrialConfig
from tuner.data.letterbox import canvas_for
from tuner.data.split import Split
from tuner.models.anchors import letterboxed_sizes
from tuner.report.figures import BLACK, save

_MOST_BOXES = 3000
_MOST_CLASSES = 8
_MARKERS = "osD^vP"


def draw_anchors(config: TrialConfig, train: Split, path: Path) -> Path:
    """Draw a trial's anchors over the training boxes as the network sees them.

    Args:
        config: With its anchor set.
        train: The training split.
        path: Where the picture goes, png or svg.
    """
    canvas = canvas_for(train.sizes, config.image_size)
    sizes, labels = letterboxed_sizes(train, canvas)
    return draw_anchor_sets(sizes, labels, train.classes, {config.anchors: config.anchor_sizes or ()}, path)


def draw_anchor_sets(
    sizes: NDArray[np.float64],
    labels: NDArray[np.int64],
    classes: Sequence[str],
    anchor_sets: Mapping[str, AnchorSizes],
    path: Path,
) -> Path:
    """Draw several sets side by side, each over the same boxes; of many boxes a random few thousand are shown.

    Args:
        sizes: (M, 2) (width, height) of the boxes in pixels of the canvas.
        labels: (M,) their class indices.
        classes: Class names.
        anchor_sets: Sets by the name that stands above them.
        path: Where the picture goes, png or svg.
    """
    shown = np.sort(np.random.default_rng(0).permutation(len(sizes))[:_MOST_BOXES])
    columns = min(4, len(anchor_sets))
    rows = -(-len(anchor_sets) // columns)
    figure = Figure(figsize=(1.2 + 3.4 * columns, 0.6 + 3.2 * rows), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes, (name, anchors) in zip(grid.flat, anchor_sets.items(), strict=False):
        _draw_boxes(axes, sizes[shown], labels[shown], classes)
        _draw_set(axes, anchors)
        axes.set_title(name, fontsize=9)
        axes.set_xscale("log")
        axes.set_yscale("log")
        for axis in (axes.xaxis, axes.yaxis):
            _label_pixels(axis)
        axes.grid(visible=True, alpha=0.3)
    for axes in list(grid.flat)[len(anchor_sets) :]:
        axes.set_axis_off()
    figure.supxlabel("width (pixels of the canvas)", fontsize=9)
    figure.supylabel("height (pixels of the canvas)", fontsize=9)
    handles, names = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right upper", fontsize=8)
    return save(figure, path)


def _label_pixels(axis: Axis) -> None:
    """Ticks at a few plain numbers, which stay apart on a logarithmic axis of any range."""
    low, high = axis.get_view_interval()
    decades = np.log10(high / low)
    steps = (1, 2, 5) if decades < 2 else (1, 3)
    axis.set_major_locator(MaxNLocator(5) if decades < 1 else LogLocator(subs=steps))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())
    axis.set_tick_params(labelsize=8)


def _draw_boxes(axes: Axes, sizes: NDArray[np.float64], labels: NDArray[np.int64], classes: Sequence[str]) -> None:
    """Points in a colour for each of the most frequent classes, and one colour for the others."""
    frequent = np.argsort(-np.bincount(labels, minlength=len(classes)), kind="stable")[:_MOST_CLASSES]
    others = ~np.isin(labels, frequent)
    style: dict[str, Any] = {"s": 5, "alpha": 0.35, "linewidths": 0}
    for rank, label in enumerate(frequent.tolist()):
        width, height = sizes[labels == label].T
        axes.scatter(width, height, color=f"C{rank}", label=classes[label], **style)
    if others.any():
        width, height = sizes[others].T
        axes.scatter(width, height, color="#b0b0b0", label="other classes", **style)


def _draw_set(axes: Axes, anchors: AnchorSizes) -> None:
    for level, pairs in enumerate(anchors):
        width, height = np.array(pairs).T
        axes.scatter(
            width,
            height,
            s=42,
            marker=_MARKERS[level % len(_MARKERS)],
            facecolors="none",
            edgecolors=BLACK,
            linewidths=1.3,
            label=f"anchors, level {level + 1}",
        )
