"""The sizes of `dense`, from one that trains on a CPU in minutes upward."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tuner.config.trial import TrialConfig
from tuner.models.catalog import check_pretrained, family
from tuner.models.dense import DenseDetector
from tuner.models.dense_network import DenseNetwork, PlainTrunk, Trunk
from tuner.models.dense_trunks import resnet, shufflenet
from tuner.models.detector import Detector


@dataclass(frozen=True)
class DenseSize:
    """A size of `dense`.

    Attributes:
        trunk: Builds the trunk from the config's `weights`.
        width: Channels of pyramid and head.
        depth: Convolutions of the head before its last layer.
    """

    trunk: Callable[[str], Trunk]
    width: int
    depth: int


SIZES: dict[str, DenseSize] = {
    "dense-tiny": DenseSize(lambda _: PlainTrunk((16, 32, 64, 96, 128), (0, 1, 1, 1)), width=64, depth=1),
    "dense-shufflenet": DenseSize(lambda weights: shufflenet("shufflenet_v2_x0_5", weights), width=96, depth=1),
    "dense-small": DenseSize(lambda weights: resnet("resnet18", weights), width=96, depth=2),
    "dense-medium": DenseSize(lambda weights: resnet("resnet34", weights), width=128, depth=3),
    "dense-large": DenseSize(lambda weights: resnet("resnet50", weights), width=192, depth=4),
}


def build_dense(config: TrialConfig, num_classes: int) -> Detector:
    """A `DenseDetector` of the config's size, with the config's anchors.

    Raises:
        ConfigError: There are no pretrained weights.
        WeightsError: The pretrained weights are missing, out of reach or of another shape.
    """
    check_pretrained(config.model, config.weights)
    sizes = config.anchor_sizes or ()
    size = SIZES[config.model]
    network = DenseNetwork(size.trunk(config.weights), size.width, size.depth, len(sizes[0]), num_classes)
    return DenseDetector(network, sizes, family(config.model).strides)
