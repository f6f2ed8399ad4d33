"""Learning curves: of one trial, and of all trials of a study in one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.ticker import MaxNLocator

from tuner.report.figures import BLACK, BLUE, GREY, RED, save, small_figure


@dataclass(frozen=True)
class Curve:
    """One trial's curve.

    Attributes:
        number: Of the trial.
        epochs: Finished epochs, ascending.
        values: The metric after each of them.
        complete: Whether the trial trained to its end (else: pruned, failed or still running).
    """

    number: int
    epochs: Sequence[int]
    values: Sequence[float]
    complete: bool


def draw_study_curves(
    curves: Sequence[Curve],
    path: Path,
    *,
    metric: str = "map",
    best: int | None = None,
    default: int | None = None,
    title: str = "",
) -> Path:
    """Draw every trial's curve; the best and the default trial stand out, trials that are not complete are grey.

    Args:
        curves: One for each trial.
        path: Picture to write (png or svg).
        metric: Name for the vertical axis.
        best: Number of the best trial.
        default: Number of the trial of the default config.
        title: Above the picture.
    """
    figure, axes = small_figure("epoch", metric, width=7.0, height=4.2)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    shown = [curve for curve in curves if curve.epochs]
    for curve in sorted(shown, key=lambda c: (c.number in (best, default), c.complete)):
        style: dict[str, Any]
        if curve.number == best:
            style = {"color": RED, "linewidth": 2.2, "label": f"best (trial {curve.number})"}
        elif curve.number == default:
            style = {"color": BLACK, "linewidth": 1.8, "linestyle": "--", "label": f"default (trial {curve.number})"}
        else:
            style = {"color": BLUE if curve.complete else GREY, "linewidth": 0.9, "alpha": 0.8}
        axes.plot(curve.epochs, curve.values, marker="." if len(curve.epochs) == 1 else None, **style)
    others = [curve for curve in shown if curve.number not in (best, default)]
    for complete, colour, word in ((True, BLUE, "complete"), (False, GREY, "not complete")):
        count = sum(curve.complete is complete for curve in others)
        if count:
            axes.plot([], [], color=colour, linewidth=0.9, label=f"{word} ({count})")
    if shown:
        axes.legend(fontsize=8, loc="lower right")
    if title:
        axes.set_title(title, fontsize=10)
    return save(figure, path)


def draw_trial_curve(
    epochs: Sequence[int], values: Mapping[str, Sequence[float | None]], losses: Sequence[float], path: Path
) -> Path:
    """Draw one trial's metrics and, on an axis of its own, its training loss.

    Args:
        epochs: Finished epochs, ascending.
        values: Each metric's value after each epoch; None where it is undefined.
        losses: Mean total loss of each epoch.
        path: Picture to write.
    """
    figure, axes = small_figure("epoch", "validation")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    marker = "." if len(epochs) == 1 else None
    for name, series in values.items():
        axes.plot(epochs, [float("nan") if v is None else v for v in series], label=name, marker=marker)
    axes.legend(fontsize=8, loc="center right")
    right = axes.twinx()
    right.plot(epochs, losses, color=GREY, linewidth=0.9, linestyle=":", marker=marker)
    right.set_ylabel("training loss (dotted)", color=GREY)
    return save(figure, path)
