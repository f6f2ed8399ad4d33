"""Small matplotlib figures without global state: every picture of a report starts and ends here."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tuner.config.files import written_whole
from tuner.report.fonts import write_plainly

GREY = "#b0b0b0"
BLUE = "#1f77b4"
RED = "#d62728"
BLACK = "#202020"


def small_figure(x_label: str, y_label: str, *, width: float = 5.0, height: float = 3.4) -> tuple[Figure, Axes]:
    """An empty figure with labelled axes; sizes in inches at 100 dpi."""
    figure = Figure(figsize=(width, height), dpi=100, layout="tight")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(visible=True, alpha=0.3)
    return figure, axes


def save(figure: Figure, path: Path) -> Path:
    """Write the figure in the format of the path's suffix (png or svg), whole or not at all.

    Raises:
        ConfigError: It cannot be written.
    """
    write_plainly(figure)
    with written_whole(path) as whole:
        figure.savefig(whole)
    return path
