"""`StudySpec`: what the user asked for. Read from YAML by `tuner.config.load.load_study_spec`."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    Field,
    PositiveFloat,
    StrictInt,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from tuner.config.base import Count, Frozen, is_stored
from tuner.config.counts import MAX_COUNT, MAX_SEED, MAX_SLOTS
from tuner.config.errors import ConfigError
from tuner.config.objective import Constraint, Objective

Parsed = TypeVar("Parsed")
StudyName = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


def is_study_name(text: str) -> bool:
    """Whether a study can be called so."""
    try:
        TypeAdapter(StudyName).validate_python(text)
    except ValidationError:
        return False
    return True


class DataSpec(Frozen):
    """Where a COCO data set is. Relative paths are relative to `root`; `load_study_spec` makes `root` absolute."""

    root: Path = Field(Path(), description="folder that the other paths start from")
    images: Path = Field(Path("images"), description="folder of the images")
    train: Path = Field(description="COCO JSON of the training split")
    val: Path = Field(description="COCO JSON of the validation split, by which trials are judged")
    test: Path | None = Field(None, description="COCO JSON of the test split, looked at once, for the final config")
    on_bad_boxes: Literal["refuse", "repair"] = Field(
        "refuse",
        description="boxes outside the image or without area: refuse the data set, or clip and drop, copies too",
    )

    def path(self, relative: Path) -> Path:
        """The path of a part of the data set, from `root`."""
        return self.root / relative


class ObjectiveSpec(Frozen):
    """What is optimised: a metric by name, or a weighted sum of metrics, kept in one spelling of it."""

    metric: str = Field("map", description="such as map, map50, map_small, f1, count_mae or 0.7*map + 0.3*f1")
    direction: Literal["maximize", "minimize"] = Field("maximize", description="default: the metric's own")

    @model_validator(mode="before")
    @classmethod
    def _parsed(cls, data: Any) -> Any:
        if not isinstance(data, dict) or not isinstance(data.get("metric"), str):
            return data
        try:
            objective = Objective.parse(data["metric"])
        except ConfigError:
            return data  # `tuner.studies.search.objective.check_objective` says what is wrong
        return {"direction": objective.direction} | data | {"metric": str(objective)}

    @property
    def sign(self) -> int:
        """1 where larger values are better, -1 where smaller ones are."""
        return 1 if self.direction == "maximize" else -1


class SamplerSpec(Frozen):
    """Optuna's sampler, by name; the options that a sampler has no use for must be left out."""

    name: Literal["auto", "tpe", "random", "gp", "cmaes", "grid"] = Field(
        "auto", description="auto: gp for the first fifty trials, then tpe; tpe where it fits better (see the README)"
    )
    seed: int = Field(
        0,
        ge=0,
        le=MAX_SEED,
        description="seed of the sampler and of every trial: the same, so that trials compare as pairs",
    )
    multivariate: bool | None = Field(
        None, description="TPE: model parameters jointly; default: no, which found better configs"
    )
    startup_trials: Count | None = Field(
        None, description="TPE, GP: trials before the model, half of them near the default config; CMA-ES: random ones"
    )


class PrunerSpec(Frozen):
    """A pruner, by name, with epochs as the resource: one of Optuna's, or `promote`, which pauses and resumes."""

    name: Literal["successive_halving", "promote", "hyperband", "median", "percentile", "patient", "none"] = Field(
        "promote", description="which trials are stopped, or pause; none: all are trained in full"
    )
    first_rung: StrictInt | float | None = Field(
        None,
        description="epochs before the first decision, or their share of all (0.25); default: a ninth of all, but not "
        "before the third",
    )
    reduction_factor: int | None = Field(
        None, ge=2, le=MAX_COUNT, description="successive halving, promote, Hyperband: keep one of so many (3)"
    )
    startup_trials: int | None = Field(
        None, ge=0, le=MAX_COUNT, description="median, percentile, patient: complete trials before pruning (5)"
    )
    percentile: float | None = Field(
        None, gt=0.0, lt=100.0, description="percentile: keep the best so many percent (25)"
    )
    patience: int | None = Field(
        None, ge=0, le=MAX_COUNT, description="patient: epochs without gain before pruning (5)"
    )

    @field_validator("first_rung")
    @classmethod
    def _are_epochs_or_a_share(cls, value: float | None) -> float | None:
        if value is not None and not 0 < value < (1 if isinstance(value, float) else MAX_COUNT):
            raise ValueError(
                f"should be whole epochs, such as 3, or a share of all between 0 and 1, such as 0.25, found {value!r}"
            )
        return value


class BudgetSpec(Frozen):
    """When a study ends; whichever comes first. Counted over all workers and restarts; trials that run are finished."""

    trials: Count | None = Field(30, description="finished trials (complete, pruned or failed)")
    wall_time: PositiveFloat | None = Field(None, description="seconds in which at least one trial ran; '2d' in YAML")
    gpu_hours: PositiveFloat | None = Field(
        None, description="hours of training on GPUs; one that is shared counts once"
    )
    cpu_hours: PositiveFloat | None = Field(None, description="hours of CPU time of the trials")
    epochs: Count | None = Field(None, description="epochs of all trials together")
    no_gain: Count | None = Field(
        None, description="trials in a row that did not raise the best value by more than its noise"
    )
    timeout: PositiveFloat | None = Field(None, description="seconds of wall time for one `tuner run`; '2h' in YAML")


class PlanSpec(Frozen):
    """What fits into some hours (`tuner run --hours`), laid out by `tuner.studies.search.plan` from one timed epoch."""

    hours: PositiveFloat = Field(description="wall time for everything, the confirmation included")
    slots: Count = Field(description="trials at the same time")
    epoch_seconds: PositiveFloat = Field(description="measured: of the default config, while all slots work")
    epochs: Count = Field(description="full length of a trial")
    first_rung: Count = Field(description="epochs before the first decision")
    reduction_factor: Count | None = Field(description="one trial of so many goes on; None: not by halving")
    trials: Count
    top: Count = Field(description="configs that are confirmed, beside the default")
    seeds: Count = Field(description="fresh seeds for each of them")
    search_epochs: Count = Field(description="epochs that the search is expected to train")
    search_seconds: PositiveFloat = Field(description="wall time that it is expected to take")
    confirm_seconds: PositiveFloat = Field(description="wall time that is kept for the confirmation")


class StudySpec(Frozen):
    """A whole study: data, defaults, search space, search, budget and machine.

    Objectives and constraints are kept in one spelling of each, so that specs compare by what they mean.
    """

    name: StudyName = Field(description="of the study in its database")
    data: DataSpec
    defaults: dict[str, Any] = Field(
        default_factory=dict,
        description="fields of TrialConfig that differ from its defaults: the study's default config",
    )
    space: str | dict[str, Any] = Field(
        "default", description="name of a ready-made space, path of a YAML file, or the dimensions themselves"
    )
    objective: ObjectiveSpec = ObjectiveSpec()
    objectives: tuple[str, ...] = Field(
        (),
        description="two or more, such as [map, latency_ms], for a Pareto front; `objective` (mAP unless said) is then "
        "what trials are pruned by and tables rank by",
    )
    constraints: tuple[str, ...] = Field((), description="limits such as 'latency_ms <= 20' that the best must keep")
    sampler: SamplerSpec = SamplerSpec()
    pruner: PrunerSpec = PrunerSpec()
    budget: BudgetSpec = BudgetSpec()
    plan: PlanSpec | None = Field(None, description="written by `tuner run --hours`, not by hand")
    # Not in its repr, for the sake of the password in it.
    storage: str | None = Field(None, repr=False, description="database URL; default: SQLite in ./tuner-studies")
    keep: Literal["best", "all", "none"] = Field(
        "best", description="checkpoints of ended trials that stay; those of trials that may go on always do"
    )
    priority: int = Field(
        0,
        ge=-MAX_COUNT,
        le=MAX_COUNT,
        description="workers without a study of their own take the one with the highest first",
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    slots: Count | None = Field(
        None, le=MAX_SLOTS, description="trials at the same time on this machine; default: by the device"
    )

    @field_validator("device")
    @classmethod
    def _is_device(cls, text: str) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+(,\d+)*)?", text):
            raise ValueError(f"expected auto, cpu, cuda or cuda:N, found {text!r}")
        return text

    @field_validator("objectives")
    @classmethod
    def _are_objectives(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        found = tuple(str(_parsed(Objective.parse, text)) for text in texts)
        if len(found) == 1 or len(set(found)) < len(found):
            raise ValueError("several different objectives belong here; write a single one as `objective: {metric: …}`")
        return found

    @field_validator("constraints")
    @classmethod
    def _are_constraints(cls, texts: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        limits = {str(limit): limit for limit in (_parsed(Constraint.parse, text) for text in texts)}
        for (upper, most), (lower, least) in itertools.permutations(() if is_stored(info) else limits.items(), 2):
            if most.name == least.name and most.at_most and not least.at_most and most.limit < least.limit:
                raise ValueError(f"no value of {most.name} keeps both '{lower}' and '{upper}': drop one of them")
        return tuple(limits)


def _parsed(parse: Callable[[str], Parsed], text: str) -> Parsed:
    """Parse, with an error that pydantic names the field of."""
    try:
        return parse(text)
    except ConfigError as error:
        raise ValueError(". ".join(part for part in (error.message.rstrip("."), error.hint) if part)) from None
