"""The detectors by name, and what is known of each without building it. Free of torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tuner.config.errors import ConfigError, nearest
from tuner.config.trial import AnchorSizes
from tuner.config.weights import NAMED, detector_in, holds_detector
from tuner.data.letterbox import Canvas


@dataclass(frozen=True)
class Family:
    """One kind of detector.

    Every family takes any canvas whose sides are multiples of 32 pixels.

    Attributes:
        name: Its name in `TrialConfig.model`.
        strides: Pixels between positions, for each level, finest first.
        equal_counts: Whether the head is shared by all levels, so that each needs as many anchors.
        own_scale: Size of the objects that belong to a level, in strides: side of the square of equal area.
        make_default: Makes the default anchors for a canvas.
        pretrained: Whether there are pretrained weights for its backbone.
    """

    name: str
    strides: tuple[int, ...]
    equal_counts: bool
    own_scale: float
    make_default: Callable[[Canvas], AnchorSizes] | None
    pretrained: bool = True

    @property
    def has_anchors(self) -> bool:
        """Whether the family works with anchors."""
        return self.make_default is not None

    def default_anchors(self, canvas: Canvas) -> AnchorSizes | None:
        """The family's own anchors, (width, height) in pixels of the canvas; None without anchors."""
        return self.make_default(canvas) if self.make_default else None

    def level_bounds(self) -> tuple[float, ...]:
        """Object sizes (square root of the area, in pixels) that divide the levels, one fewer than levels."""
        pairs = zip(self.strides[:-1], self.strides[1:], strict=True)
        return tuple(self.own_scale * math.sqrt(a * b) for a, b in pairs)


_YOLO_V5 = (
    ((10, 13), (16, 30), (33, 23)),
    ((30, 61), (62, 45), (59, 119)),
    ((116, 90), (156, 198), (373, 326)),
)
"""COCO's anchors at 640 pixels (Ultralytics YOLOv5, yolov5s.yaml), for strides 8, 16 and 32."""


def _scaled_coco(canvas: Canvas) -> AnchorSizes:
    scale = max(canvas) / 640
    return tuple(tuple((w * scale, h * scale) for w, h in level) for level in _YOLO_V5)


def _sizes_by_ratios(levels: tuple[tuple[float, ...], ...]) -> Callable[[Canvas], AnchorSizes]:
    """Anchors of torchvision's `AnchorGenerator` in its order, without its rounding; pixels, whatever the canvas."""
    ratios = (0.5, 1.0, 2.0)
    anchors = tuple(
        tuple((size / math.sqrt(ratio), size * math.sqrt(ratio)) for ratio in ratios for size in sizes)
        for sizes in levels
    )
    return lambda canvas: anchors


def _default_boxes(scales: tuple[float, ...], ratios: tuple[tuple[float, ...], ...]) -> Callable[[Canvas], AnchorSizes]:
    """Anchors of torchvision's `DefaultBoxGenerator`, fractions of the canvas clipped to it (SSD, Liu et al., 2016)."""

    def make(canvas: Canvas) -> AnchorSizes:
        levels = []
        for scale, larger, level_ratios in zip(scales[:-1], scales[1:], ratios, strict=True):
            fractions = [(scale, scale), (math.sqrt(scale * larger),) * 2]
            for ratio in level_ratios:
                long, short = scale * math.sqrt(ratio), scale / math.sqrt(ratio)
                fractions += [(long, short), (short, long)]
            levels.append(tuple((min(w, 1.0) * canvas.width, min(h, 1.0) * canvas.height) for w, h in fractions))
        return tuple(levels)

    return make


def _dense(name: str, *, pretrained: bool = True) -> Family:
    return Family(name, (8, 16, 32), True, 4.0, _scaled_coco, pretrained)


_FPN_SIZES = (32.0, 64.0, 128.0, 256.0, 512.0)
_rpn = _sizes_by_ratios(tuple((size,) for size in _FPN_SIZES))
_rpn_mobile = _sizes_by_ratios((_FPN_SIZES,) * 3)
_retina = _sizes_by_ratios(
    # torchvision cuts the octave steps to whole pixels, and its pretrained heads know those.
    tuple((size, float(int(size * 2 ** (1 / 3))), float(int(size * 2 ** (2 / 3)))) for size in _FPN_SIZES)
)
_ssd300 = _default_boxes((0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05), ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,)))
_ssdlite = _default_boxes((0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0), ((2, 3),) * 6)

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        _dense("dense-tiny", pretrained=False),
        _dense("dense-small"),
        _dense("dense-medium"),
        _dense("dense-large"),
        _dense("dense-shufflenet"),
        Family("fasterrcnn-resnet50", (4, 8, 16, 32, 64), True, 8.0, _rpn),
        Family("fasterrcnn-resnet50-v2", (4, 8, 16, 32, 64), True, 8.0, _rpn),
        Family("fasterrcnn-mobilenet", (32, 32, 64), True, 4.0, _rpn_mobile),
        Family("fasterrcnn-mobilenet-320", (32, 32, 64), True, 4.0, _rpn_mobile),
        Family("retinanet-resnet50", (8, 16, 32, 64, 128), True, 5.0, _retina),
        Family("retinanet-resnet50-v2", (8, 16, 32, 64, 128), True, 5.0, _retina),
        Family("fcos-resnet50", (8, 16, 32, 64, 128), True, 8.0, None),
        Family("ssd300-vgg16", (8, 16, 32, 64, 100, 300), False, 2.5, _ssd300),
        Family("ssdlite320-mobilenet", (16, 32, 64, 128, 256, 512), False, 2.5, _ssdlite),
    )
}
"""Every detector that `TrialConfig.model` can name."""


def family(name: str) -> Family:
    """The family of a name.

    Raises:
        ConfigError: There is none of that name.
    """
    if name not in FAMILIES:
        raise ConfigError(f"model: there is no detector {name!r}", hint=nearest(name, FAMILIES))
    return FAMILIES[name]


def check_pretrained(model: str, weights: str) -> None:
    """Refuse pretrained weights (`TrialConfig.weights`) for a detector that has none, but for its own of a training.

    Raises:
        ConfigError: It has none, or they are another detector's, or there is no such detector.
    """
    held = None if weights in NAMED else detector_in(Path(weights))
    if held not in (None, model):
        raise ConfigError(
            f"weights: {weights} holds a {held}, not a {model}",
            hint=f"Use model: {held}, or other weights, or weights: none.",
        )
    if not family(model).pretrained and weights != "none" and not holds_detector(Path(weights)):
        raise ConfigError(
            f"weights: {model} has no pretrained weights, but weights is {weights!r}",
            hint="Use weights: none, a model that `tuner train` wrote, or a detector on a torchvision backbone, such "
            "as dense-shufflenet.",
        )
