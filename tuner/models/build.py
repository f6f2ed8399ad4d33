"""From a `TrialConfig` to a detector: the one function through which every model is built."""

from __future__ import annotations

from tuner.config.errors import ConfigError
from tuner.config.trial import TrialConfig
from tuner.config.weights import NAMED
from tuner.data.letterbox import Canvas
from tuner.models.anchors import check_anchors
from tuner.models.catalog import family
from tuner.models.dense_build import SIZES, build_dense
from tuner.models.detector import Detector
from tuner.models.torchvision_build import build_torchvision
from tuner.models.weights import StateDict, read_pretrained

CANDIDATES_FOR_EACH = 10
"""Candidates for each detection that is kept of an image, as suppression leaves few of the many around an object."""


def build_detector(config: TrialConfig, num_classes: int, trained: StateDict | None = None) -> Detector:
    """Build the detector of a resolved config, with the weights that it is to start from.

    Args:
        config: With `anchor_sizes` filled in where the family has anchors.
        num_classes: K; labels are 0 … K-1 on the outside, whatever the family counts inside.
        trained: State of a detector that was built from this config, to fill it with. Nothing is fetched then.

    Raises:
        ConfigError: The anchors are missing or do not fit the family.
        WeightsError: The pretrained weights are missing, out of reach or of another shape.
        RuntimeError: `trained` is another detector's.
    """
    described = family(config.model)
    if described.has_anchors and config.anchor_sizes is None:
        raise ConfigError(
            f"{config.model} has anchors, but the config holds none",
            hint="Resolve them first: tuner.models.anchors.resolve_anchors(config, train).",
        )
    if config.anchor_sizes is not None:
        check_anchors(config.anchor_sizes, described)
    if trained is not None:
        config = config.model_copy(update={"weights": "none"})
    if config.model in SIZES:
        detector = build_dense(config, num_classes)
    else:
        detector = build_torchvision(config, num_classes, trained)
    detector.max_candidates = max(Detector.max_candidates, CANDIDATES_FOR_EACH * config.max_detections)
    if trained is not None:
        detector.load_state_dict(trained)
    elif config.weights not in NAMED:
        read_pretrained(config.weights).fill_detector(detector.get_submodule("network"))
    return detector


def fetch_pretrained(model: str) -> None:
    """Put torchvision's weights for a detector where every later build finds them, and see that they fit.

    Raises:
        ConfigError: There is no such detector, or it has no pretrained weights.
        WeightsError: They are out of reach or of another shape.
    """
    anchors = family(model).default_anchors(Canvas(320, 320))
    build_detector(TrialConfig(model=model, weights="default", anchor_sizes=anchors), 1)
