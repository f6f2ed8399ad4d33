"""The anchor recipes that a study tries: those of its space that the training boxes do not rule out."""

from __future__ import annotations

from dataclasses import replace

from tuner.config.trial import TrialConfig
from tuner.data.split import Split
from tuner.models.anchor_choice import choose_recipes
from tuner.models.anchors import CUSTOM
from tuner.models.catalog import family
from tuner.space.dimension import CategoricalDimension, IntDimension
from tuner.space.space import SearchSpace

_FIELD = "anchors"


def without_ruled_out(space: SearchSpace, base: TrialConfig, train: Split) -> tuple[SearchSpace, dict[str, str]]:
    """The space with the anchor recipes that are worth a trial, and why each of the others is left out.

    The default config's recipe always stays. Where trials may have several detectors, a recipe goes that none of those
    with anchors has a use for. Where other dimensions depend on the recipe, all stay.

    Args:
        space: The search space.
        base: The study's default config.
        train: The boxes.
    """
    dimension = space.dimensions.get(_FIELD)
    default = space.default_config(base)
    if not isinstance(dimension, CategoricalDimension) or any(
        _FIELD in other.when for other in space.dimensions.values()
    ):
        return space, {}
    names = [str(choice) for choice in dimension.choices if choice != CUSTOM]
    models = _models(space, default)
    kinds = {replace(kind, name=""): kind for kind in map(family, models) if kind.has_anchors}
    sizes = _image_sizes(space, default)
    if kinds:
        found = [choose_recipes(names, kind, sizes, train, keep=[default.anchors]).dropped for kind in kinds.values()]
        dropped = {name: why for name, why in found[0].items() if all(name in other for other in found)}
    else:
        dropped = {name: f"{default.model} has no anchors" for name in names if name != default.anchors}
    if not dropped:
        return space, {}
    kept = tuple(choice for choice in dimension.choices if choice not in dropped)
    narrowed = dimension.model_copy(update={"choices": kept})
    return space.model_copy(update={"dimensions": space.dimensions | {_FIELD: narrowed}}), dropped


def _models(space: SearchSpace, default: TrialConfig) -> list[str]:
    """Detectors that trials may have, the default config's first."""
    dimension = space.dimensions.get("model")
    choices = dimension.choices if isinstance(dimension, CategoricalDimension) else ()
    return list(dict.fromkeys([default.model, *map(str, choices)]))


def _image_sizes(space: SearchSpace, default: TrialConfig) -> list[int]:
    """Image sizes that trials may have; of a range both ends and the default."""
    dimension = space.dimensions.get("image_size")
    sizes = {default.image_size}
    if isinstance(dimension, CategoricalDimension):
        sizes |= {int(choice) for choice in dimension.choices}
    elif isinstance(dimension, IntDimension):
        sizes |= {dimension.low, dimension.high}
    return sorted(sizes)
