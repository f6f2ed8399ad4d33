"""How many images at a time a CPU judges, which has no exception to fall back on."""

from __future__ import annotations

import math

import pytest
import torch

from tuner.config.trial import TrialConfig
from tuner.data.letterbox import Canvas
from tuner.models.build import build_detector
from tuner.models.catalog import family
from tuner.trainers.detection.fitting import at_once_on

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


def config_of(model: str, canvas: Canvas) -> TrialConfig:
    return TrialConfig(model=model, anchor_sizes=family(model).default_anchors(canvas))


@pytest.mark.parametrize(
    ("model", "side", "classes", "most", "wanted"),
    [
        ("dense-tiny", 640, 3, 16, 16),
        ("dense-tiny", 640, 300, 16, 8),
        ("dense-tiny", 1280, 300, 64, 2),
        ("dense-tiny", 1280, 5000, 64, 1),
        ("fcos-resnet50", 1280, 300, 16, 6),
        ("fasterrcnn-resnet50", 1280, 300, 16, 16),
    ],
)
def test_a_cpu_sees_as_many_images_as_have_scores_that_it_holds(model, side, classes, most, wanted) -> None:
    canvas = Canvas(side, side)
    assert at_once_on(CPU, most, config_of(model, canvas), canvas, classes) == wanted
    assert at_once_on(GPU, most, config_of(model, canvas), canvas, classes) == most


@pytest.mark.parametrize("model", ["dense-tiny", "fcos-resnet50", "retinanet-resnet50", "ssdlite320-mobilenet"])
def test_the_number_of_scores_is_that_of_the_detector(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which `best_pairs` is given."""
    canvas, seen = Canvas(128, 96), []
    module = "tuner.models.dense" if model.startswith("dense") else "tuner.models.torchvision_detectors"

    def watched(scores: torch.Tensor, most: int):
        seen.append(scores.shape[1])
        raise InterruptedError

    monkeypatch.setattr(f"{module}.best_pairs", watched)
    config = config_of(model, canvas).model_copy(update={"image_size": 128})
    detector = build_detector(config, 2).eval()
    with pytest.raises(InterruptedError), torch.inference_mode():
        detector.candidates(torch.zeros(1, 3, canvas.height, canvas.width, dtype=torch.uint8))
    guessed = (1 << 28) / (4 * 1 * at_once_on(CPU, 1 << 28, config, canvas, 1))
    assert math.isclose(guessed, seen[0], rel_tol=0.2)
