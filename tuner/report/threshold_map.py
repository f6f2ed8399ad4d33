"""F1 and mAP over NMS IoU and confidence, as maps of colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tuner.evaluation.calibration import GRID, Calibration
from tuner.postprocess.operating_point import OperatingPoint
from tuner.report.figures import RED, save


def draw_threshold_maps(calibration: Calibration, chosen: OperatingPoint | None, path: Path) -> Path:
    """Draw one row of two maps for each kind of NMS, F1 left and mAP right, and mark the chosen operating point."""
    kinds = list(dict.fromkeys(row.nms for row in calibration.rows))
    figure = Figure(figsize=(10.0, 0.6 + 2.9 * len(kinds)), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    grids = {"F1": calibration.f1_grid, "mAP": calibration.map_grid}
    panels = figure.subplots(len(kinds), 2, squeeze=False)
    for (kind, name), axes in zip(((k, n) for k in kinds for n in grids), panels.flat, strict=True):
        rows = [i for i, row in enumerate(calibration.rows) if row.nms == kind]
        rows.sort(key=lambda i: calibration.rows[i].nms_iou)
        values = grids[name][rows]
        # One scale for all kinds, so that colours compare.
        low, high = (np.nanmin(grids[name]), np.nanmax(grids[name])) if np.isfinite(grids[name]).any() else (0.0, 1.0)
        mesh = axes.imshow(values, origin="lower", aspect="auto", vmin=low, vmax=high, cmap="viridis")
        figure.colorbar(mesh, ax=axes)
        axes.set_title(f"{name}, {kind}", fontsize=9)
        axes.set_xlabel("confidence")
        axes.set_ylabel("sigma" if kind == "soft-gaussian" else "NMS IoU")
        axes.set_xticks(range(0, len(GRID), 4), [f"{c:.2f}" for c in GRID[::4]])
        axes.set_yticks(range(len(rows)), [f"{calibration.rows[i].nms_iou:.2f}" for i in rows], fontsize=7)
        if chosen is not None and chosen.nms == kind:
            height = [calibration.rows[i].nms_iou for i in rows].index(chosen.nms_iou)
            axes.plot([chosen.confidence / (GRID[1] - GRID[0])], [height], "o", color=RED, markeredgecolor="white")
            axes.set_xlim(-0.5, max(len(GRID) - 0.5, chosen.confidence / (GRID[1] - GRID[0]) + 0.5))
    return save(figure, path)
