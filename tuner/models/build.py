"""From a `TrialConfig` to a detector: the one function through which every model is built."""

from __future__ import annotations

from tuner.config.errors import ConfigError
from tuner.config.trial import TrialConfig
from tuner.models.catalog import family
from tuner.models.dense_build import build_dense
from tuner.models.detector import Detector
from tuner.models.torchvision_build import build_torchvision


def build_detector(config: TrialConfig, num_classes: int) -> Detector:
    """Build the detector of a resolved config, with its pretrained weights where asked for.

    Args:
        config: With `anchor_sizes` filled in where the family has anchors.
        num_classes: K; labels are 0 … K-1 on the outside, whatever the family counts inside.

    Raises:
        ConfigError: The anchors are missing or do not fit the family.
        WeightsError: The pretrained weights are missing, out of reach or of another shape.
    """
    described = family(config.model)
    if described.has_anchors and config.anchor_sizes is None:
        raise ConfigError(
            f"{config.model} has anchors, but the config holds none",
            hint="Resolve them first: tuner.models.anchors.resolve_anchors(config, train).",
        )
    build = build_dense if config.model.startswith("dense") else build_torchvision
    return build(config, num_classes)
