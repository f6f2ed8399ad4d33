"""Metrics as text tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
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


def metrics_table(found: ModelMetrics) -> str:
    """COCO's twelve numbers, AP by class and the numbers at the operating point, with "undefined" for None."""
    rows: list[tuple[str, float | None]] = []
    if found.metrics is not None:
        rows += [(label, getattr(found.metrics, name)) for label, name in _ROWS]
        rows += [(f"AP of {name}", value) for name, value in found.metrics.class_map.items()]
    rows += [
        ("precision at the operating point", found.precision),
        ("recall at the operating point", found.recall),
        ("F1 at the operating point", found.f1),
    ]
    width = max(len(label) for label, _ in rows)
    return "\n".join(f"  {label:<{width}}  {'undefined' if v is None else f'{v:.4f}'}" for label, v in rows)
