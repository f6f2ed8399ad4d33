"""Anchor recipes: how the anchor set of a trial is made from the training boxes that the network will see."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuner.config.errors import ConfigError, DataError, nearest
from tuner.config.trial import AnchorSizes, TrialConfig
from tuner.data.letterbox import Canvas, canvas_for, placements
from tuner.data.split import Split
from tuner.models.catalog import Family, family
from tuner.models.kmeans import Distance, FloatArray, cluster, distinct

CUSTOM = "custom"
"""`TrialConfig.anchors` of a set that was given, not made: `anchor_sizes` holds it."""

MAX_BOXES = 5_000
"""From more boxes than these a random draw is clustered, each box as probable as it is heavy."""

_DECIMALS = 6
"""To which a box's sides are rounded in original pixels, where x2 - x1 may have made 39.99999999999997 of 40."""


@dataclass(frozen=True)
class Recipe:
    """How an anchor set is made.

    Attributes:
        distance: k-means by this distance (see `tuner.models.kmeans.cluster`); None: the family's default set.
        balanced: Whether each class weighs the same in total, so that a frequent one does not take all centroids.
        per_level: Anchors at each level; None: as many as in the family's default set.
        own_scale: Whether each level is clustered from the boxes of its own scale. Otherwise all boxes are
            clustered together, and the clusters go to the levels by ascending area, as in YOLO.
    """

    distance: Distance | None = None
    balanced: bool = False
    per_level: int | None = None
    own_scale: bool = True


RECIPES: dict[str, Recipe] = {"default": Recipe()} | {
    f"kmeans-{distance}{balanced}{count}{free}": Recipe(
        distance, bool(balanced), int(count[1:]) if count else None, not free
    )
    for distance in ("iou", "wh", "ratio")
    for balanced in ("", "-balanced")
    for count in ("", "-1", "-2", "-3", "-4")
    for free in ("", "-free")
}
"""Every recipe by its name: `default`, or `kmeans-<distance>[-balanced][-<anchors per level>][-free]`."""


def recipe(name: str) -> Recipe:
    """The recipe of a name.

    Raises:
        ConfigError: There is none of that name.
    """
    if name not in RECIPES:
        close = nearest(name, [*RECIPES, CUSTOM])
        hint = (
            close if close.startswith("Did") else "Use default, custom or kmeans-{iou,wh,ratio}[-balanced][-N][-free]."
        )
        raise ConfigError(f"anchors: there is no recipe {name!r}", hint=hint)
    return RECIPES[name]


def resolve_anchors(config: TrialConfig, train: Split) -> TrialConfig:
    """The config with its anchor set filled in, which depends on the training split and the image size.

    A set that the config holds already is checked and kept, so that a stored config stays what it was.
    For a family without anchors the config comes back as it is.

    Raises:
        ConfigError: Unknown detector or recipe, or a given set that does not fit the detector.
        DataError: The recipe needs boxes, and the split has none.
    """
    check_given(config)
    if config.anchor_sizes is not None or not family(config.model).has_anchors:
        return config
    return config.model_copy(
        update={"anchor_sizes": _anchors_for(config.model, config.anchors, config.image_size, train)}
    )


def check_given(config: TrialConfig) -> None:
    """Check what a config itself says of its anchors, for which no data are needed.

    Raises:
        ConfigError: Unknown detector or recipe, a given set that does not fit the detector, or none where the recipe
            is 'custom'.
    """
    kind = family(config.model)
    if config.anchors != CUSTOM:
        recipe(config.anchors)
    if config.anchor_sizes is not None:
        check_anchors(config.anchor_sizes, kind)
    elif config.anchors == CUSTOM:
        raise ConfigError(
            "anchors: 'custom' without anchor_sizes", hint="Give anchor_sizes, or name a recipe such as 'default'."
        )


def check_anchors(anchors: AnchorSizes, kind: Family) -> None:
    """Refuse a set whose numbers of levels and anchors the family cannot use.

    Raises:
        ConfigError: It does not fit.
    """
    counts = [len(level) for level in anchors]
    if not kind.has_anchors:
        raise ConfigError(f"anchor_sizes: {kind.name} has no anchors", hint="Leave anchor_sizes out.")
    if len(counts) != len(kind.strides):
        raise ConfigError(
            f"anchor_sizes: {len(counts)} levels, but {kind.name} has {len(kind.strides)} "
            f"(strides {', '.join(map(str, kind.strides))})",
            hint="Give one list of [width, height] pairs for each level, finest first.",
        )
    if min(counts) == 0 or (kind.equal_counts and len(set(counts)) > 1):
        raise ConfigError(
            f"anchor_sizes: {', '.join(map(str, counts))} anchors at the levels of {kind.name}, which needs "
            + ("as many at each, as its levels share one head" if kind.equal_counts else "at least one at each"),
        )


def letterboxed_sizes(split: Split, canvas: Canvas) -> tuple[FloatArray, NDArray[np.int64]]:
    """What the network sees of a split's boxes, crowd regions left out.

    Returns:
        (M, 2) (width, height) in pixels of the canvas and (M,) class indices.
    """
    scale = placements(split.sizes, canvas)[split.image_index, 0]
    sides = np.maximum(split.boxes[:, 2:].round(_DECIMALS), 10.0**-_DECIMALS)
    return (sides * scale[:, None])[~split.crowd], split.labels[~split.crowd]


def make_anchors(
    made_by: Recipe, kind: Family, sizes: FloatArray, labels: NDArray[np.int64], canvas: Canvas
) -> AnchorSizes:
    """The anchor set of a recipe for a family.

    Args:
        made_by: The recipe.
        kind: The family; one with anchors.
        sizes: (M, 2) (width, height) of the training boxes in pixels of the canvas.
        labels: (M,) their class indices.
        canvas: The canvas, for the default set.

    Returns:
        (width, height) pairs in pixels for each level: clusters by ascending area within a level, the default set in
        the family's own order.

    Raises:
        ConfigError: The family has no anchors.
        DataError: There are no boxes to cluster.
    """
    default = kind.default_anchors(canvas)
    if default is None:
        raise ConfigError(f"anchors: {kind.name} has no anchors", hint="Leave anchors out.")
    if made_by.distance is None:
        return default
    if not len(sizes):
        raise DataError(
            "anchors: the training split has no boxes to make anchors from", hint="Use anchors: default, or add boxes."
        )
    weights = 1 / np.bincount(labels)[labels] if made_by.balanced else np.ones(len(labels))
    if len(sizes) > MAX_BOXES:
        drawn = np.random.default_rng(0).choice(len(sizes), MAX_BOXES, p=weights / weights.sum())
        sizes, weights = sizes[drawn], np.ones(MAX_BOXES)
    counts = [made_by.per_level or len(level) for level in default]
    if made_by.own_scale:
        levels = _by_own_scale(sizes, weights, counts, kind.level_bounds(), made_by.distance, canvas)
    else:
        clusters = cluster(sizes, sum(counts), made_by.distance, weights)
        levels = np.split(clusters, np.cumsum(counts)[:-1])
    return tuple(tuple((float(w), float(h)) for w, h in level) for level in levels)


def _by_own_scale(
    sizes: FloatArray,
    weights: FloatArray,
    counts: list[int],
    bounds: tuple[float, ...],
    distance: Distance,
    canvas: Canvas,
) -> list[FloatArray]:
    """Cluster each level's own boxes, those whose size lies between its bounds (as FCOS and FPN divide objects).

    A level with fewer different boxes than anchors clusters all boxes, those outside its bounds brought to
    the nearer one (but not beyond the canvas) with their shape kept: its anchors have shapes that occur.
    """
    scale = np.sqrt(sizes.prod(axis=1))
    levels = []
    for low, high, count in zip((0.0, *bounds), (*bounds, np.inf), counts, strict=True):
        own = (scale >= low) & (scale < high)
        if len(distinct(sizes[own])) >= count:
            levels.append(cluster(sizes[own], count, distance, weights[own]))
        else:
            factor = np.minimum(np.clip(scale, low, high) / scale, (canvas / sizes).min(axis=1))
            levels.append(cluster(sizes * factor[:, None], count, distance, weights))
    return levels


@functools.lru_cache(maxsize=256)
def _anchors_for(model: str, made_by: str, image_size: int, train: Split) -> AnchorSizes:
    """`make_anchors` for a split, remembered, as trials ask for the same sets again and again."""
    canvas = canvas_for(train.sizes, image_size)
    return make_anchors(recipe(made_by), family(model), *letterboxed_sizes(train, canvas), canvas)
