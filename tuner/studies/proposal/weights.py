"""`first_weights`: what the detector of a first study starts from, where nothing is asked for."""

from __future__ import annotations

from tuner.config.errors import WeightsError
from tuner.models.catalog import family
from tuner.studies.proposal.choice import Choice

MORE = "a backbone trained on ImageNet mostly brings more, the more the fewer the images"


def asked_weights(weights: str) -> Choice:
    """Weights that were asked for, as `TrialConfig.weights` has them."""
    return Choice(weights, "as asked for" if weights == "none" else "as asked for; `none` trains from scratch")


def first_weights(model: str) -> Choice:
    """Torchvision's weights for a detector that can have them, fetched now; else none, with the reason.

    120 photographs of raccoons brought a pretrained ShuffleNet a mAP of 0.57, `dense-tiny`, which begins at random,
    0.42 to 0.46. On BCCD's 205 blood cells both came to about 0.6.

    Args:
        model: Name of a detector.

    Raises:
        ConfigError: There is no such detector.
    """
    if not family(model).pretrained:
        return Choice(
            "none",
            f"from scratch; {MORE}: `tuner init --weights default` downloads what it needs, --weights FILE takes a "
            "file, both with a detector that can have one",
        )
    from tuner.models.build import fetch_pretrained  # torch: for those detectors alone

    try:
        fetch_pretrained(model)
    except WeightsError as error:
        return Choice("none", f"from scratch, as {error.message}; {MORE}. {error.hint}")
    return Choice("default", f"{MORE}; every machine that trains fetches it once. `--weights none` trains from scratch")
