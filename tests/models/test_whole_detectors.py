"""Trainings that start from a whole detector: one of tuner's own, or one of torchvision's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision.models import get_model
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn

from tuner.config.errors import ConfigError, WeightsError
from tuner.config.trial import TrialConfig
from tuner.data.letterbox import Canvas
from tuner.models.build import build_detector
from tuner.models.catalog import FAMILIES, check_pretrained
from tuner.models.detector import Detector

CANVAS = Canvas(96, 96)


def build(name: str, weights: Path | str = "none", classes: int = 2, *, anchors: int | None = None) -> Detector:
    sizes = FAMILIES[name].default_anchors(CANVAS)
    if sizes is not None and anchors is not None:
        sizes = tuple(level[:anchors] for level in sizes)
    return build_detector(TrialConfig(model=name, weights=str(weights), anchor_sizes=sizes), classes)


def saved(detector: Detector, path: Path) -> dict[str, Tensor]:
    """Save a detector with weights that no initialisation has; they are returned."""
    state = {key: value + 0.25 if value.is_floating_point() else value for key, value in detector.state_dict().items()}
    torch.save(state, path)
    return state


def different(detector: Detector, state: dict[str, Tensor]) -> list[str]:
    """Names of what a detector has, but a state has otherwise."""
    own = {key: value for key, value in detector.state_dict().items() if not key.endswith("num_batches_tracked")}
    return [
        key for key, value in own.items() if not (value.shape == state[key].shape and torch.equal(value, state[key]))
    ]


@pytest.mark.parametrize(
    "name", ["dense-tiny", "dense-small", "dense-shufflenet", "fasterrcnn-mobilenet-320", "ssdlite320-mobilenet"]
)
def test_all_of_an_own_model_is_taken_but_what_other_classes_need(name: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    state = saved(build(name), path)
    assert not different(build(name, path), state)
    begun_anew = different(build(name, path, classes=3), state)
    assert begun_anew
    assert all(re.search(r"\.(classes|box_predictor|classification_head)\.", key) for key in begun_anew), begun_anew


def test_an_own_model_that_began_with_a_classifiers_weights_keeps_its_build(tmp_path: Path) -> None:
    torch.save(get_model("mobilenet_v3_large", num_classes=7).state_dict(), tmp_path / "classifier.pth")
    for name in ("ssdlite320-mobilenet", "fasterrcnn-mobilenet-320"):
        state = saved(build(name, tmp_path / "classifier.pth"), tmp_path / "weights.pt")
        assert not different(build(name, tmp_path / "weights.pt"), state)


def test_another_number_of_anchors_leaves_what_predicts_them_to_chance(tmp_path: Path) -> None:
    state = saved(build("dense-tiny"), tmp_path / "weights.pt")
    begun_anew = different(build("dense-tiny", tmp_path / "weights.pt", anchors=2), state)
    assert begun_anew
    assert all(key.startswith("network.head.") for key in begun_anew)


def test_a_detector_of_torchvision_is_taken_with_its_head(tmp_path: Path) -> None:
    theirs = fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None, num_classes=3)
    torch.save(theirs.state_dict(), tmp_path / "detector.pth")
    ours = build("fasterrcnn-mobilenet-320", tmp_path / "detector.pth")
    assert not different(ours, {f"network.{key}": value for key, value in theirs.state_dict().items()})


@pytest.mark.parametrize(("name", "other"), [("dense-tiny", "dense-shufflenet"), ("dense-small", "dense-tiny")])
def test_a_model_of_another_detector_is_refused(name: str, other: str, tmp_path: Path) -> None:
    saved(build(other), tmp_path / "weights.pt")
    with pytest.raises(WeightsError, match=r"weights.pt does not fit: \d+ of \d+ parameters match"):
        build(name, tmp_path / "weights.pt")


def test_a_detector_without_a_backbone_of_torchvision_can_start_from_its_own_models(tmp_path: Path) -> None:
    saved(build("dense-tiny"), tmp_path / "weights.pt")
    torch.save(get_model("shufflenet_v2_x0_5").state_dict(), tmp_path / "classifier.pth")
    check_pretrained("dense-tiny", str(tmp_path / "weights.pt"))
    for weights in ("default", str(tmp_path / "classifier.pth"), str(tmp_path / "missing.pt")):
        with pytest.raises(ConfigError, match="dense-tiny has no pretrained weights"):
            check_pretrained("dense-tiny", weights)
