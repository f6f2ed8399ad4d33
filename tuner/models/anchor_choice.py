"""Which anchor recipes are worth a trial: told from the boxes alone, before any training.

The set that fits best need not detect best, so fit decides nothing between sets that trade one size of objects for
another. It does rule out a set that another one, with no more anchors, beats or equals for objects of every size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tuner.config.errors import ConfigError
from tuner.config.trial import AnchorSizes
from tuner.data.letterbox import canvas_for
from tuner.data.split import Split
from tuner.models.anchor_fit import iou_fits, of_sizes
from tuner.models.anchors import check_anchors, letterboxed_sizes, make_anchors, recipe
from tuner.models.catalog import Family
from tuner.models.kmeans import FloatArray


@dataclass(frozen=True)
class AnchorChoices:
    """Recipes that remain, and the others.

    Attributes:
        kept: Their names, in the given order.
        dropped: Why each of the others is left out, by its name.
    """

    kept: tuple[str, ...]
    dropped: dict[str, str]


def choose_recipes(
    names: Sequence[str], kind: Family, image_sizes: Sequence[int], train: Split, *, keep: Sequence[str] = ()
) -> AnchorChoices:
    """Leave out the recipes whose sets cannot be better than another's.

    A recipe goes when the family cannot represent its set, when its sets are the same as those of an earlier one, or
    when one other recipe, with no more anchors, has as high a recall and mean IoU for small, medium and large objects
    and a higher one somewhere; each of this at every image size.

    Args:
        names: The candidates.
        kind: The family; one with anchors.
        image_sizes: That trials may have.
        train: The boxes.
        keep: Candidates that stay unless they cannot be represented, such as the default config's.

    Raises:
        ConfigError: A recipe is unknown, or none can be represented.
        DataError: The split has no boxes.
    """
    dropped: dict[str, str] = {}
    sets: dict[str, list[AnchorSizes]] = {}
    canvases = [canvas_for(train.sizes, size) for size in image_sizes]
    boxes = [letterboxed_sizes(train, canvas) for canvas in canvases]
    for name in dict.fromkeys(names):
        made = [make_anchors(recipe(name), kind, *seen, c) for seen, c in zip(boxes, canvases, strict=True)]
        try:
            for one in made:
                check_anchors(one, kind)
        except ConfigError as error:
            dropped[name] = error.message
            continue
        sets[name] = made
    if not sets:
        raise ConfigError(
            f"{kind.name} can represent none of the anchor recipes: {'; '.join(dropped.values())}",
            hint="Choose other recipes; see `tuner anchors`.",
        )
    order = sorted(sets, key=lambda name: name not in keep)  # of the same sets those to be kept come first
    for i, name in enumerate(order):
        twin = next((o for o in order[:i] if o not in dropped and _same(sets[o], sets[name])), None)
        if twin is not None:
            dropped[name] = f"its sets are those of {twin}"
    alive = [name for name in sets if name not in dropped]
    groups = list(of_sizes(train).values())
    fits = {
        name: np.concatenate([iou_fits(one, seen, groups) for one, (seen, _) in zip(sets[name], boxes, strict=True)])
        for name in alive
    }
    for name in alive:
        if name in keep:
            continue
        better = next((o for o in alive if o != name and _beats(o, name, sets, fits)), None)
        if better is not None:
            dropped[name] = f"{better} fits objects of every size at least as well, with no more anchors"
    return AnchorChoices(tuple(name for name in sets if name not in dropped), dropped)


def _same(a: list[AnchorSizes], b: list[AnchorSizes]) -> bool:
    return all(
        len(one) == len(other)
        and all(len(p) == len(q) and np.allclose(p, q, rtol=1e-3) for p, q in zip(one, other, strict=True))
        for one, other in zip(a, b, strict=True)
    )


def _beats(a: str, b: str, sets: dict[str, list[AnchorSizes]], fits: dict[str, FloatArray]) -> bool:
    """Whether a is at least as good as b everywhere, and better somewhere: an order without circles."""
    counts = [(sum(map(len, x)), sum(map(len, y))) for x, y in zip(sets[a], sets[b], strict=True)]
    # Fit is by shape alone, so sets whose anchors lie on the levels by another rule do not compare.
    if any(mine > others for mine, others in counts) or recipe(a).own_scale != recipe(b).own_scale:
        return False
    return bool((fits[a] >= fits[b]).all() and (fits[a] > fits[b]).any())
