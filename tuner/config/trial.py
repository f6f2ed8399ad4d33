"""`TrialConfig`: one point of the search space, with everything that training and post-processing need.

Every default and every valid range of a hyperparameter is defined here and nowhere else. What a study
searches are narrower ranges of the same fields (`search_spaces/`).
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import AfterValidator, ConfigDict, Field, PositiveFloat, model_validator

from tuner.config.base import Count, Frozen, Value
from tuner.config.counts import IMAGE_SIZES, MAX_COUNT
from tuner.config.problems import KeyProblem

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
AnchorSizes = tuple[tuple[tuple[PositiveFloat, PositiveFloat], ...], ...]
"""Anchors as (width, height) pairs in pixels of the letterboxed image, one tuple for each level, finest first."""
NmsKind: TypeAlias = Literal[
    "greedy", "greedy-voting", "greedy-agnostic", "diou", "soft-linear", "soft-gaussian", "wbf", "none"
]
"""The kinds of suppression; `tuner.postprocess.nms_kinds.KINDS` computes them."""


def _worth_cutting(size: int) -> int:
    if 0 < size < 32:
        raise ValueError(f"tiles of {size} pixels are too small: choose 32 or more, such as 640, or 0 for none")
    return size


class Tiles(Frozen):
    """Sliced prediction: images are seen whole and in overlapping tiles, so that small objects are not scaled away.

    After Akyon et al. 2022, "Slicing aided hyper inference and fine-tuning for small object detection" (SAHI); one
    suppression merges what all windows show.
    """

    size: Annotated[int, AfterValidator(_worth_cutting)] = Field(
        0,
        ge=0,
        le=MAX_COUNT,
        description="width and height of a tile in original pixels; 0: images are only seen whole",
    )
    overlap: float = Field(
        0.2,
        ge=0.0,
        le=0.9,
        description="least part of a tile that it shares with the next one; an object smaller than this part lies "
        "whole in at least one tile",
    )


WHOLE = Tiles()
"""Images are only seen whole."""


class Augment(Frozen):
    """Random changes to training images. Geometry is in fractions of the canvas, so it is free of the image size."""

    mosaic: Probability = Field(0.3, description="probability that a sample is a mosaic of four images")
    close_mosaic: float = Field(
        0.2, ge=0.0, le=1.0, description="the last part of training (fraction of the epochs) that uses no mosaic"
    )
    horizontal_flip: Probability = Field(0.5, description="probability of a left-right flip")
    vertical_flip: Probability = Field(0.0, description="probability of an upside-down flip")
    strength: float = Field(
        0.5, ge=0.0, le=1.0, description="strength of affine and colour changes: 0 none, 1 the strongest"
    )


def _learning_rate(given: dict[str, Any]) -> float:
    """The default for a detector: torchvision's are deeper, and at high rates their loss jumps at first.

    torchvision trains its RetinaNet v2 with AdamW and 1e-4 at 16 images (pytorch/vision pull request 5756), from
    pretrained weights; from scratch more is better.

    SGD has ten times AdamW's, which divides each gradient by its size: a step of SGD is as long as the gradient, and
    published recipes have 1e-2 to 2e-2 (see `search_spaces/detection.yaml`). On 120 photographs of raccoons dense-tiny
    had a mAP of 0.236 with AdamW at 2e-3, of 0.126 with SGD at 2e-3 and 0.208 at 2e-2.
    """
    rate = 2e-3 if str(given.get("model")).startswith("dense") else 2e-4
    return 10 * rate if given.get("optimizer") == "sgd" else rate


def _backbone_lr_factor(given: dict[str, Any]) -> float:
    """The default for a detector: torchvision trains its pretrained backbones at the full rate, freezing their norms.

    `dense` trains the norms, too. At the full rate a pretrained ShuffleNet lost channels on BCCD, and with them,
    late and by chance, a third of its mAP.
    """
    return 0.5 if str(given.get("model")).startswith("dense") else 1.0


class Own(Frozen):
    """Hyperparameters of a trainer of your own, under names of your own, which the built-in trainer has no use for."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Value]

    @model_validator(mode="before")
    @classmethod
    def _names_and_values(cls, data: Any) -> Any:
        for name, value in data.items() if isinstance(data, dict) else ():
            if problem := cls.problem(str(name), value):
                raise KeyProblem((name,), problem)
        return data

    @classmethod
    def problem(cls, name: str, value: Any) -> str | None:
        """Why there can be no such hyperparameter, in words; None where there can."""
        if not name.isidentifier() or name.startswith("_") or hasattr(cls, name):
            return "cannot be the name of a hyperparameter: take letters, digits and '_', as in box_gain"
        if not isinstance(value, bool | int | float | str) or (isinstance(value, float) and not math.isfinite(value)):
            return f"should be a number, text or truth value, found {value!r}"
        return None

    @property
    def values(self) -> dict[str, Value]:
        """All of them by name."""
        return dict(self.__pydantic_extra__)


NO_OWN = Own()


class TrialConfig(Frozen):
    """One fully described training run, except for its seed.

    Two trials with equal configs and equal seeds are the same experiment. `anchors` names how the anchor
    set is made; `anchor_sizes` holds the set itself and is filled in before training
    (`tuner.models.anchors.resolve_anchors`), so that a stored config never depends on the code that
    made its anchors.
    """

    model: str = Field("dense-tiny", description="detector")
    weights: str = Field(
        "none",
        description="'none' (from scratch), 'default' (torchvision's backbone), or the path of a weights file: of a "
        "classifier, of one of torchvision's detectors, or of a model that `tuner train` wrote",
    )
    anchors: str = Field(
        "default",
        description="how anchors are made: default, or kmeans-iou, -wh or -ratio (the distance), with -balanced "
        "(over classes), -1 to -4 (for each level) and -free (over levels) behind it as wanted",
    )
    anchor_sizes: AnchorSizes | None = Field(
        None, description="explicit anchors per level, (width, height) in pixels; None: not resolved, or no anchors"
    )
    image_size: int = Field(
        320, ge=IMAGE_SIZES[0], le=IMAGE_SIZES[1], description="longer side of the canvas in pixels"
    )

    epochs: Count = Field(30, description="full training length; schedules are laid out for it")
    batch_size: int = Field(8, ge=1, le=4096, description="images per optimiser step")
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="optimiser")
    learning_rate: float = Field(
        default_factory=_learning_rate,
        gt=0.0,
        le=10.0,
        description="peak learning rate; default: 2e-3 for dense detectors, 2e-4 for torchvision's; ten times that for "
        "SGD",
    )
    backbone_lr_factor: float = Field(
        default_factory=_backbone_lr_factor,
        gt=0.0,
        le=1.0,
        description="learning rate of a pretrained backbone, as a part of learning_rate; from scratch it is 1",
    )
    weight_decay: float = Field(5e-4, ge=0.0, le=1.0, description="weight decay; never on norms and biases")
    momentum: float = Field(0.9, ge=0.0, lt=1.0, description="momentum of SGD, first beta of AdamW")
    schedule: Literal["cosine", "step", "constant"] = Field("cosine", description="learning-rate schedule")
    warmup_epochs: float = Field(1.0, ge=0.0, description="linear warm-up, in epochs")
    warmup_steps: int = Field(
        0,
        ge=0,
        le=MAX_COUNT,
        description="steps that the warm-up has at least, as far as an eighth of the training holds them",
    )
    gradient_clip: float = Field(10.0, ge=0.0, description="maximum gradient norm; 0 switches clipping off")
    ema_decay: float = Field(0.99, ge=0.0, lt=1.0, description="decay of the averaged weights per step; 0 off")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="arithmetic of forward and backward; auto: bf16 where the device computes it natively"
    )

    augment: Augment = Augment()

    tiles: Tiles = WHOLE
    nms: NmsKind = Field("greedy", description="kind of suppression")
    nms_iou: float = Field(0.6, gt=0.0, le=1.0, description="IoU above which a weaker box is suppressed")
    confidence: Probability = Field(0.25, description="score below which a detection is not shown in production")
    max_detections: Count = Field(100, description="detections kept per image")

    own: Own = Field(
        NO_OWN,
        exclude_if=lambda own: own == NO_OWN,
        description="hyperparameters of a trainer of your own (--trainer), by name",
    )

    @model_validator(mode="after")
    def _warmup_fits(self) -> Self:
        if self.warmup_epochs > self.epochs:
            raise ValueError(
                f"warmup_epochs is {self.warmup_epochs:g}, longer than the training of {self.epochs} epochs"
            )
        return self
