"""`propose`: a first study for a data set and a device, each choice with its reason."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tuner.config.trial import TrialConfig
from tuner.data.coco import Dataset
from tuner.data.crowded import most_objects
from tuner.data.letterbox import Canvas, canvas_for
from tuner.data.mirrored import mirrored_classes
from tuner.data.survey import Survey
from tuner.data.unseen import unseen_notes
from tuner.models.anchors import letterboxed_sizes
from tuner.models.catalog import family
from tuner.models.kmeans import RATIO_LIMIT, ratio
from tuner.studies.proposal.choice import Choice
from tuner.studies.proposal.length import first_length, first_pruner
from tuner.studies.proposal.rates import WARMUP_STEPS, first_learning_rate, highest_rate
from tuner.studies.proposal.weights import asked_weights, first_weights
from tuner.studies.search.plan import TRIALS

SEEN = 16
"""Pixels that a small object should have on the canvas: two cells of the finest level (stride 8)."""
SEEN_ON_CPU = 48
"""The same on a CPU, within `CPU_SIZES`, where pixels are paid for with steps. In as much time as 320 px take,
`dense-tiny` and a pretrained ShuffleNet gained by 416 px on BCCD, where a tenth of the objects is below 40 px at 320,
and lost by it on photographs of raccoons, where that is 108 px."""
CPU_SIZES = (320, 416)
CPU_BATCH = 4
"""A CPU gains little by larger batches: at 8 an epoch took a tenth less time than at 4, but its half as many steps
brought less (dense-tiny on BCCD, 24 epochs: mAP 0.535 against 0.553; on a raccoon data set, 40 epochs, two seeds:
0.333 against 0.344)."""


@dataclass(frozen=True)
class Proposal:
    """A study that suits a data set and a device.

    Attributes:
        defaults: Fields of `TrialConfig`, nested ones by their dotted names, with reasons, in the order of the file.
        pruner: Options of the pruner with their reasons; empty where its own defaults suit.
        trials: The study's budget.
        hours: Estimate of its wall time; None where it cannot be foreseen.
    """

    defaults: dict[str, Choice]
    pruner: dict[str, Choice]
    trials: int
    hours: float | None


def propose(
    dataset: Dataset,
    survey: Survey,
    *,
    cuda: bool,
    slots: int,
    model: str | None = None,
    weights: str | None = "none",
    image_size: int | None = None,
) -> Proposal:
    """Lay out a first study.

    Args:
        dataset: The data set.
        survey: Its numbers.
        cuda: Whether trials run on GPUs.
        slots: Trials that run at the same time.
        model: The detector; None: one that suits the device and has a backbone for the weights.
        weights: What it starts from, as `TrialConfig.weights` has it; None: torchvision's, where there are some for the
            detector and they can be fetched.
        image_size: In pixels, as `TrialConfig.image_size` has it; None: one that suits the objects and the device.

    Raises:
        DataError: All objects are too small to be seen at the image size.
    """
    chosen = _model(model, cuda, weights not in (None, "none"))
    start = first_weights(chosen.value) if weights is None else asked_weights(weights)
    pretrained = start.value != "none"
    size = _image_size(survey, cuda) if image_size is None else _asked_size(survey, image_size)
    unseen_notes(dataset.train, size.value)
    canvas = canvas_for(dataset.train.sizes, size.value)
    batch_size = _batch_size(survey, cuda, size.value)
    steps = survey.train.images / batch_size.value
    epochs, hours = first_length(
        survey, steps, canvas, cuda=cuda, slots=slots, model=chosen.value, pretrained=pretrained
    )
    defaults = {
        "model": chosen,
        "weights": start,
        "image_size": size,
        "batch_size": batch_size,
        "epochs": epochs,
        **_rates(survey, batch_size.value, steps, chosen.value),
        "anchors": _anchors(dataset, survey, chosen.value, canvas),
        **_flips(survey),
        **_max_detections(dataset),
    }
    return Proposal(defaults, first_pruner(epochs.value, steps, pretrained), TRIALS, hours)


def _model(asked: str | None, cuda: bool, pretrained: bool) -> Choice:
    if asked is None and cuda:
        name, reason = "dense-small", "a middle between accuracy and speed on a GPU"
    elif asked is None and pretrained:
        name, reason = "dense-shufflenet", "the smallest detector on a torchvision backbone, for a CPU"
    elif asked is None:
        name, reason = "dense-tiny", "the detector that trains on a CPU in minutes"
    else:
        name, reason = asked, "as asked for"
    if not name.startswith("dense"):
        reason += f"; its default learning rate is {TrialConfig(model=name).learning_rate:g}"
    return Choice(name, reason)


def _image_size(survey: Survey, cuda: bool) -> Choice:
    native = max(64, -(-survey.longer_side // 32) * 32)
    object_size = max(survey.small_object, 1 / survey.longer_side)  # below a pixel of the image nothing is seen
    wanted = 32 * math.ceil(SEEN / object_size / 32)
    if cuda:
        size = min(max(640, wanted), 1280, native)
        limits = "between 640 and 1280 on a GPU"
    else:
        smallest, largest = CPU_SIZES
        size = min(max(smallest, 32 * math.ceil(SEEN_ON_CPU / object_size / 32)), largest, native)
        limits = f"between {smallest} and {largest} on a CPU"
    small = survey.small_object * size
    reason = (
        f"{limits}, at most the images' own {survey.longer_side} px; "
        f"the smallest tenth of the objects is below {small:.0f} px there"
    )
    if small < SEEN / 2 and size < native:
        reason += f", little for a finest stride of 8: {min(wanted, native)} would show them" + (
            "" if cuda else ", on a GPU"
        )
    return Choice(size, reason)


def _asked_size(survey: Survey, asked: int) -> Choice:
    small = survey.small_object * asked
    return Choice(asked, f"as asked for; the smallest tenth of the objects is below {small:.0f} px there")


def _batch_size(survey: Survey, cuda: bool, image_size: int) -> Choice:
    usual = (16 if image_size <= 800 else 8) if cuda else CPU_BATCH
    size = usual
    while size > 2 and survey.train.images / size < 8:
        size //= 2
    if size < usual:
        return Choice(
            size, f"smaller than the usual {usual}: {survey.train.images} images should give 8 steps an epoch"
        )
    if not cuda:
        return Choice(size, "a CPU takes little longer for small batches, and their many steps teach more")
    return Choice(size, "usual for this image size; halved by itself where memory does not suffice")


def _rates(survey: Survey, batch_size: int, steps: float, model: str) -> dict[str, Choice]:
    """Learning rate and warm-up of `dense` detectors; nothing for the others, which have their own."""
    if not model.startswith("dense"):
        return {}
    boxes = sum(survey.train.class_boxes) / survey.train.images * batch_size
    reason = (
        f"the more boxes in a batch, the larger, up to {highest_rate(model):g}; here they are {boxes:.0f}. "
        "Leave it out for a model of another family, which has its own"
    )
    rates = {"learning_rate": Choice(first_learning_rate(boxes, model), reason)}
    if steps < WARMUP_STEPS:
        few = f"warm-up in optimiser steps, as an epoch has just {steps:.0f}; at most an eighth of the training"
        rates["warmup_steps"] = Choice(WARMUP_STEPS, few)
    return rates


def _anchors(dataset: Dataset, survey: Survey, model: str, canvas: Canvas) -> Choice:
    """For `dense` clusters of the boxes; for the others their own anchors where these reach the boxes.

    Clusters brought dense-tiny 0.589 instead of 0.549 on BCCD, 0.419 instead of 0.391 on photographs of raccoons (one
    seed each).
    """
    sizes, _ = letterboxed_sizes(dataset.train, canvas)
    own = family(model).default_anchors(canvas)
    if own is None or not len(sizes):
        return Choice(TrialConfig().anchors, "the family's own")
    anchors = np.array([anchor for level in own for anchor in level])
    reached = float((ratio(sizes, anchors).max(axis=1) > 1 / RATIO_LIMIT).mean())
    reason = f"the family's own set reaches {reached:.1%} of the boxes"
    if model.startswith("dense"):
        reason = "clusters of the boxes mostly detect better than the family's own set"
    elif reached >= 0.98:
        return Choice("default", f"{reason}; the study tries others too")
    balanced = survey.imbalance > 2
    if balanced:
        reason += f", each class weighing the same, as one has {survey.imbalance:.0f} times the boxes of another"
    return Choice("kmeans-iou-balanced" if balanced else "kmeans-iou", f"{reason}; the study tries others too")


def _flips(survey: Survey) -> dict[str, Choice]:
    """None where they would turn one class into another."""
    pair = mirrored_classes(survey.classes)
    if pair is None:
        return {}
    reason = f"a left-right flip, by default of every second image, would turn {pair[0]} into {pair[1]}"
    return {"augment.horizontal_flip": Choice(0, reason)}


def _max_detections(dataset: Dataset) -> dict[str, Choice]:
    """Enough for the image with the most objects; nothing where the default is."""
    usual = TrialConfig().max_detections
    most = most_objects((dataset.train, dataset.val))
    wanted = 100 * math.ceil(1.5 * most / 100)
    if wanted <= usual:
        return {}
    reason = f"detections kept of an image, where one holds {most} objects; the default of {usual} "
    reason += "would miss the rest" if most > usual else "leaves little room for wrong ones"
    return {"max_detections": Choice(wanted, reason)}
