"""`Swept`: which post-processing a trial tries after its training (decision 4). Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tuner.config.trial import NmsKind, Tiles, TrialConfig
from tuner.space.dimension import CategoricalDimension, FloatDimension
from tuner.space.space import SearchSpace

NMS_RANGE = (0.3, 0.8)
"""Lowest and highest NMS IoU where nobody says another, as in `search_spaces/default.yaml`."""


@dataclass(frozen=True)
class Swept:
    """What there is to choose from; where there is nothing, the config's own value holds.

    NMS IoU and confidence are swept unless a study fixes or samples them, and greedy NMS is tried with voting, too,
    which costs little. Other kinds of NMS and tiles are swept where a study names them, because they cost time: a kind
    that changes scores suppresses and matches anew for each IoU, and tiles cost a pass of the network for every window.

    Attributes:
        tiles: Ways to cut images.
        nms: Kinds of suppression.
        nms_iou: Lowest and highest NMS IoU.
        confidence: Lowest and highest confidence threshold.
    """

    tiles: tuple[Tiles, ...] = ()
    nms: tuple[NmsKind, ...] = ()
    nms_iou: tuple[float, float] | None = NMS_RANGE
    confidence: tuple[float, float] | None = (0.0, 1.0)

    @classmethod
    def of(cls, space: SearchSpace, config: TrialConfig) -> Swept:
        """What a search space leaves to be chosen after the training of a config."""
        default = cls()
        return cls(
            tiles=_tiles(space, config),
            nms=_kinds(space, config),
            nms_iou=_range(space, "nms_iou", default.nms_iou),
            confidence=_range(space, "confidence", default.confidence),
        )

    def within_training(self) -> Swept:
        """What is swept after an epoch that is not the last: confidence thresholds alone."""
        return replace(self, tiles=(), nms=(), nms_iou=None)


NOTHING = Swept(nms_iou=None, confidence=None)


def _tiles(space: SearchSpace, config: TrialConfig) -> tuple[Tiles, ...]:
    sizes, overlaps = _choices(space, "tiles.size"), _choices(space, "tiles.overlap")
    if not sizes and not overlaps:
        return ()
    # Without tiles the overlap means nothing: such a choice stands there once.
    every = [
        config.tiles.model_copy(update={"size": size} | ({"overlap": overlap} if size else {}))
        for size in sizes or (config.tiles.size,)
        for overlap in overlaps or (config.tiles.overlap,)
    ]
    return tuple(dict.fromkeys(every))


def _kinds(space: SearchSpace, config: TrialConfig) -> tuple[NmsKind, ...]:
    if "nms" in space.dimensions:
        return _choices(space, "nms")
    return ("greedy", "greedy-voting") if config.nms == "greedy" else ()


def _choices(space: SearchSpace, name: str) -> tuple[Any, ...]:
    dimension = space.swept.get(name)
    return dimension.choices if isinstance(dimension, CategoricalDimension) else ()


def _range(space: SearchSpace, name: str, unmentioned: tuple[float, float] | None) -> tuple[float, float] | None:
    dimension = space.swept.get(name)
    if isinstance(dimension, FloatDimension):
        return dimension.low, dimension.high
    return None if name in space.dimensions else unmentioned
