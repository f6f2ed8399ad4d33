"""Which trainer trains a study: the built-in one or a user's own, and never now this and now that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tuner.config.errors import ConfigError, DeviceError
from tuner.config.trial import TrialConfig
from tuner.space.dimension import CategoricalDimension
from tuner.space.fields import OWN
from tuner.space.space import SearchSpace
from tuner.studies.state.presence import REPEATS
from tuner.studies.state.provenance import BUILT_IN
from tuner.workers.devices import SlotPlan

if TYPE_CHECKING:
    from tuner.studies.workable import WorkableStudy

BUILT_IN_TRAINER = "tuner.trainers.detection.train:train"


def recorded(trainer: str) -> str:
    """A trainer as attempts record it, by its import path."""
    return BUILT_IN if trainer == BUILT_IN_TRAINER else trainer


def refuse_another_trainer(study: WorkableStudy, trainer: str) -> None:
    """Refuse to go on with a study of the built-in trainer by a user's own, or the other way round.

    Two import paths of users' own may be the same training under another name.

    Raises:
        ConfigError: That is so: trials that different trainers trained say nothing about each other.
    """
    first, here = study.trained_by(), recorded(trainer)
    if first is None or (first == BUILT_IN) == (here == BUILT_IN):
        return
    name = study.name.removesuffix(REPEATS)
    if here == BUILT_IN:
        raise ConfigError(
            f"study {name!r} was begun with the trainer {first}, and the built-in one would go on with it",
            hint=f"Add --trainer {first}, or begin a study of another name.",
        )
    raise ConfigError(
        f"study {name!r} was begun with the built-in trainer, and {here} would go on with it",
        hint="Leave --trainer out, or begin a study of another name.",
    )


def check_built_in(plans: Sequence[SlotPlan], space: SearchSpace, base: TrialConfig) -> None:
    """Refuse what the built-in trainer cannot train, before each of a study's trials fails there.

    It computes fp16 on GPUs alone (`tuner.trainers.detection.precision`), and knows its own hyperparameters only.

    Args:
        plans: The slots of this machine.
        space: Of the study.
        base: What the study fixes (`tuner.config.load.base_config`).

    Raises:
        ConfigError: The study has hyperparameters of a trainer of the user's own.
        DeviceError: It may ask a slot on the CPU for fp16; a worker with GPUs can take it.
    """
    own = sorted({*(f"{OWN}{name}" for name in base.own.values), *(n for n in space.dimensions if n.startswith(OWN))})
    if own:
        raise ConfigError(
            f"{', '.join(own)}: {OWN}… is for a trainer of your own, and the built-in one has no use for it",
            hint="Name your trainer: --trainer package.module:callable.",
        )
    dimension = space.dimensions.get("precision")
    sampled = dimension.choices if isinstance(dimension, CategoricalDimension) else ()
    if "fp16" in (space.default_config(base).precision, *sampled) and any(plan.device == "cpu" for plan in plans):
        raise DeviceError(
            "precision is or may be fp16, which needs a GPU, but there are slots on the CPU",
            hint="Write precision: auto into the study file, or use --device cuda where there is a GPU.",
        )
