"""The anchor recipes that a study tries: those of its space that the training boxes do not rule out."""

from __future__ import annotations

from tuner.config.trial import TrialConfig
from tuner.data.split import Split
from tuner.models.anchor_choice import choose_recipes
from tuner.models.anchors import CUSTOM
from tuner.models.catalog import family
from tuner.space.dimension import CategoricalDimension, FixedDimension, IntDimension
from tuner.space.space import SearchSpace

_FIELD = "anchors"


def without_ruled_out(space: SearchSpace, base: TrialConfig, train: Split) -> tuple[SearchSpace, dict[str, str]]:
    """The space with the anchor recipes that are worth a trial, and why each of the others is left out.

    The default config's recipe always stays. Where trials may have several detectors, or other dimensions depend on
    the recipe, all stay.

    Args:
        space: The search space.
        base: The study's default config.
        train: The boxes.
    """
    dimension = space.dimensions.get(_FIELD)
    default = space.default_config(base)
    several = "model" in space.dimensions and not isinstance(space.dimensions["model"], FixedDimension)
    if (
        not isinstance(dimension, CategoricalDimension)
        or several
        or any(_FIELD in other.when for other in space.dimensions.values())
    ):
        return space, {}
    names = [str(choice) for choice in dimension.choices if choice != CUSTOM]
    kind = family(default.model)
    if kind.has_anchors:
        dropped = choose_recipes(names, kind, _image_sizes(space, default), train, keep=[default.anchors]).dropped
    else:
        dropped = {name: f"{kind.name} has no anchors" for name in names if name != default.anchors}
    if not dropped:
        return space, {}
    kept = tuple(choice for choice in dimension.choices if choice not in dropped)
    narrowed = dimension.model_copy(update={"choices": kept})
    return space.model_copy(update={"dimensions": space.dimensions | {_FIELD: narrowed}}), dropped


def _image_sizes(space: SearchSpace, default: TrialConfig) -> list[int]:
    """Image sizes that trials may have; of a range both ends and the default."""
    dimension = space.dimensions.get("image_size")
    sizes = {default.image_size}
    if isinstance(dimension, CategoricalDimension):
        sizes |= {int(choice) for choice in dimension.choices}
    elif isinstance(dimension, IntDimension):
        sizes |= {dimension.low, dimension.high}
    return sorted(sizes)
