"""A production config as `tuner export` writes it, without the study that it would come from."""

from __future__ import annotations

import datetime
from typing import Any

from tuner.config.objective import COCO_NAMES
from tuner.config.study import DataSpec, ObjectiveSpec
from tuner.config.trial import TrialConfig
from tuner.evaluation.metrics import Metrics
from tuner.export.production import ProductionConfig, Provenance
from tuner.postprocess.operating_point import OperatingPoint

UNDEFINED = Metrics(**dict.fromkeys(COCO_NAMES), class_map={})


def make_production(
    config: TrialConfig, point: OperatingPoint, data: DataSpec, *, metrics: Metrics = UNDEFINED, **source: Any
) -> ProductionConfig:
    """The config of trial 7 of study cells; `source` changes its provenance."""
    told: dict[str, Any] = {
        "study": "cells",
        "trial": 7,
        "seed": 0,
        "date": datetime.date(2026, 11, 20),
        "tuner": "0.1.0",
        "software": {"torch": "2.15.0"},
        "data": data,
        "fingerprint": None,
        "objective": ObjectiveSpec(),
        "value": 0.5,
        "default_value": 0.45,
    }
    return ProductionConfig(
        config=config,
        operating_point=point,
        metrics=metrics,
        default_metrics=metrics,
        provenance=Provenance(**told | source),
    )
