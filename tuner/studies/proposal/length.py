"""How long a first study trains: epochs, the rung at which its trials are first compared, and the hours it takes."""

from __future__ import annotations

import math

from tuner.config.study import PrunerSpec
from tuner.data.letterbox import Canvas
from tuner.data.survey import Survey
from tuner.studies.proposal.choice import Choice
from tuner.studies.search.plan import TRIALS, expected_epochs
from tuner.studies.search.promotion import REDUCTION_FACTOR, first_rung

CPU_HOURS = 4.0
MIN_EPOCHS = 8
FEWEST_EPOCHS = 12
MOST_EPOCHS = 400
"""Epochs where time allows: of six images they are 1,000 steps, which brought dense-tiny a mAP of 0.85 instead of the
0.33 of 60 epochs, in a minute of CPU time."""
CPU_STEPS = 1600
"""Optimiser steps of a full training at `CPU_SIDE`: as many as bring `dense-tiny` near its plateau on 200 images."""
CPU_SIDE = 320
GPU_STEPS = 3000
JUDGED_AFTER = 300
"""Optimiser steps after which trainings from scratch can be compared. Of 30 random configs of dense-tiny on BCCD, mAP
after 156 steps had a rank correlation of 0.67 with that after 1,248, but of 0.05 among the better half; after 312 steps
0.85 and 0.42. On small data sets that is later than the default first rung."""

_SECONDS_PER_MEGAPIXEL = 0.22
"""dense-tiny on one core, all included: about 4.2 s for an epoch of 205 images of 320 x 256 pixels and 87 to judge by,
which count a third."""
_SECONDS_PER_EPOCH = 0.1
"""What an epoch takes besides: 400 epochs of six images took 0.145 s of CPU time each, of which the images account for
0.08, and checkpoint and database wait for the disk."""


def first_length(
    survey: Survey, steps: float, canvas: Canvas, *, cuda: bool, slots: int, model: str, pretrained: bool
) -> tuple[Choice, float | None]:
    """Epochs for a number of steps, fewer of larger images on a CPU, where dense-tiny's study ends within hours.

    Args:
        survey: The data set in numbers.
        steps: Optimiser steps of an epoch.
        canvas: What the network sees.
        cuda: Whether trials run on GPUs.
        slots: Trials that run at the same time.
        model: The detector.
        pretrained: Whether its backbone is.

    Returns:
        The epochs, and the hours of the study; None where these cannot be foreseen.
    """
    target = GPU_STEPS if cuda else CPU_STEPS * min(1.0, (CPU_SIDE / max(canvas.width, canvas.height)) ** 2)
    wanted = max(math.ceil(target / steps), FEWEST_EPOCHS)
    epochs = min(wanted, MOST_EPOCHS)
    reason = f"about {epochs * steps:.0f} optimiser steps"
    if epochs < wanted:
        reason += f" instead of the {target:.0f} that are usual: {survey.train.images} images are few, and more help"
    elif target / steps < FEWEST_EPOCHS:
        reason += f", more than the {target:.0f} that are usual: fewer epochs leave little to stop weak trials by"
    elif not pretrained:
        reason += ", which small detectors need from scratch"
    if cuda or model != "dense-tiny":
        return Choice(epochs, f"{reason}; the first trial shows how long one takes"), None
    pixels = canvas.width * canvas.height * (survey.train.images + survey.splits[1].images / 3) / 1e6
    options = {name: choice.value for name, choice in first_pruner(epochs, steps, pretrained).items()}
    pruner = PrunerSpec.model_validate(options)
    share = expected_epochs(pruner, epochs, TRIALS) / epochs
    hours_per_epoch = share * (pixels * _SECONDS_PER_MEGAPIXEL + _SECONDS_PER_EPOCH) / slots / 3600
    affordable = math.floor(CPU_HOURS / hours_per_epoch)
    if affordable < epochs:
        epochs = max(affordable, MIN_EPOCHS)
        reason = (
            f"{epochs * steps:.0f} optimiser steps instead of the {target:.0f} that are usual: more would take a CPU "
            f"longer than {CPU_HOURS:g} hours"
        )
    return Choice(epochs, reason), epochs * hours_per_epoch


def first_pruner(epochs: int, steps: float, pretrained: bool) -> dict[str, Choice]:
    """A first rung after which trainings from scratch can be compared; nothing where the default one suits.

    It is a share, which stays right where the epochs are changed.

    Args:
        epochs: Of a full training.
        steps: Optimiser steps of an epoch.
        pretrained: Whether the backbone is.
    """
    if pretrained or first_rung(PrunerSpec(), epochs) * steps >= JUDGED_AFTER:
        return {}
    share = math.floor(100 * min(1 / REDUCTION_FACTOR, JUDGED_AFTER / (epochs * steps))) / 100
    reason = (
        f"share of the epochs after which trials are first compared: about {share * epochs * steps:.0f} optimiser "
        "steps, since what small detectors reach before says little about what they will"
    )
    once = "one trial of so many goes on: one more than usual, as the comparison comes late"
    return {"first_rung": Choice(share, reason), "reduction_factor": Choice(REDUCTION_FACTOR + 1, once)}
