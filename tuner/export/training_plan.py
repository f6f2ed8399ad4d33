"""`Plan`: one production training, checked against what the model folder holds from an earlier one."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from tuner.config.errors import ConfigError
from tuner.config.files import unwritable, write_text
from tuner.config.problems import located
from tuner.config.trial import TrialConfig
from tuner.data.fingerprint import Fingerprint
from tuner.export.model import WEIGHTS
from tuner.export.production import ProductionConfig
from tuner.postprocess.operating_point import OperatingPoint
from tuner.trainers.contract import CHECKPOINT

Part = Literal["train", "train+val"]

_TRAINING = "training"
_PLAN = "plan.json"


@dataclass(frozen=True)
class Plan:
    """One production training.

    Attributes:
        production: Where it comes from.
        config: What is trained; differs from `production.config` at most in its epochs.
        operating_point: Of `production`.
        seed: Seed of weights, shuffling and augmentation.
        part: What is trained on.
        folder: The model folder.
    """

    production: ProductionConfig
    config: TrialConfig
    operating_point: OperatingPoint
    seed: int
    part: Part
    folder: Path

    @property
    def workdir(self) -> Path:
        """Folder of the checkpoint and the merged annotations while training goes on."""
        return self.folder / _TRAINING


def make_plan(
    production: ProductionConfig,
    folder: Path,
    *,
    epochs: int | None,
    seed: int | None,
    part: Part,
    data: Fingerprint | None = None,
) -> Plan:
    """Check what is asked for against what the folder holds.

    Args:
        production: What to train.
        folder: The model folder.
        epochs: Training length; None: the config's.
        seed: None: the trial's.
        part: What to train on.
        data: Of the data set as it is now, by which an interrupted training goes on with no other; None: it is not
            compared. Nor is it where a version that kept none began the training.

    Raises:
        ConfigError: The config is for a trainer of the user's own; the epochs do not fit it; the folder holds a
            finished model, or another training that was interrupted after it had saved its state.
    """
    config, point = production.config, production.operating_point
    trainer = production.provenance.own_trainer
    if config.own.values or point is None:
        raise ConfigError(
            f"the config was found with {trainer or 'a trainer of its own'}: the built-in one cannot train it",
            hint="Train with it as that one does: tuner.load_production(FILE).config in Python.",
        )
    if epochs is not None:
        values = config.model_dump() | {"epochs": epochs}
        try:
            config = TrialConfig.model_validate(values)
        except ValidationError as error:
            raise located(error, values, TrialConfig) from None
    plan = Plan(production, config, point, production.provenance.seed if seed is None else seed, part, folder)
    wanted: dict[str, Any] = {"config": config.digest(), "seed": plan.seed, "data": part}
    if data is not None:
        splits = {"train": data.train, "val": data.val}
        wanted |= {f"{name} split": splits[name].identity for name in part.split("+")}
    _take_folder(plan, wanted)
    return plan


def _take_folder(plan: Plan, wanted: dict[str, Any]) -> None:
    """Write down in the model folder what is trained there, unless something else is."""
    path = plan.workdir / _PLAN
    under_way = path.exists() and (plan.workdir / CHECKPOINT).exists()
    found = json.loads(path.read_text()) if under_way else {}
    if (plan.folder / WEIGHTS).exists() and not under_way:
        raise ConfigError(
            f"{plan.folder} holds a finished model", hint="Name another folder with -o, or delete this one."
        )
    if other := ", ".join(sorted(key for key in wanted.keys() & found.keys() if found[key] != wanted[key])):
        raise ConfigError(
            f"{plan.folder} holds an interrupted training with another {other}",
            hint="Call `tuner train` as before, with the data as they were, to go on with it, or name another "
            "folder with -o.",
        )
    try:
        plan.workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(plan.workdir, error) from None
    if found.keys() < wanted.keys():
        write_text(path, json.dumps(wanted) + "\n")


def finish(plan: Plan) -> None:
    """Remove what a training goes on from: there is nothing left to do for it."""
    shutil.rmtree(plan.workdir)
