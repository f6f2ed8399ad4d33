"""A trained model as an ONNX file, for runtimes without torch: onnxruntime, TensorRT, OpenVINO.

The graph is `Detector.candidates`, all that is learned: letterboxing lies before it, suppression and thresholds after
it, as the operating point says, which the file carries with all else that these two need.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import warnings
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from tuner.config.errors import ConfigError
from tuner.config.files import written_whole
from tuner.config.paths import check_output
from tuner.data.letterbox import PAD_VALUE
from tuner.export.model import LoadedModel
from tuner.models.detector import Candidates, Detector
from tuner.models.torchvision_detectors import TwoStageDetector
from tuner.postprocess.voting import SIGMA

METADATA = "tuner"
"""Key of the file's metadata under which `description` stands as JSON."""
_NEEDED = ("onnx", "onnxscript")


def save_onnx(model: LoadedModel, path: Path | str, *, batch: int = 1, force: bool = False) -> None:
    """Write a model as ONNX, whole or not at all.

    Its input `images` is (batch, 3, H, W) uint8, RGB, letterboxed to the model's canvas; its outputs are those of
    `Candidates`: `boxes`, `scores` and `labels`, before suppression. It computes in float32, whereas `tuner predict`
    uses bfloat16 under `precision: auto` on GPUs and CPUs that have it: scores may differ by a hundredth.

    Args:
        model: On the CPU.
        path: The file.
        batch: Images that the network sees at a time; fixed in the file.
        force: Replace a file that is there already.

    Raises:
        ConfigError: The packages that write ONNX are missing, the family has no ONNX form, the file exists and `force`
            is not set, its folder does not exist, or it cannot be written.
    """
    path = Path(path)
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"writing ONNX needs {' and '.join(missing)}", hint="Install them: pip install 'tuner[onnx]'."
        )
    if isinstance(model.detector, TwoStageDetector):
        raise ConfigError(
            f"{model.config.model} cannot be written as ONNX: how many proposals it has depends on the image",
            hint="Take a single-stage detector (dense, RetinaNet, FCOS, SSD) where the model must run without torch.",
        )
    check_output(path, force=force)
    images = torch.zeros(batch, 3, model.canvas.height, model.canvas.width, dtype=torch.uint8)
    # Tracing leaves tensors without values where anchors are kept: in torchvision's generators, which are copied, and
    # in the cache that a `dense` detector shares with its copies, where those with values are before.
    detector = copy.deepcopy(model.detector)
    with torch.no_grad(), warnings.catch_warnings():
        # Of torch 2.11 about itself.
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
        detector.candidates(images)
        program = torch.onnx.export(
            _Candidates(detector).eval(),
            (images,),
            input_names=["images"],
            output_names=list(Candidates._fields),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    program.model.metadata_props[METADATA] = json.dumps(description(model))
    with written_whole(path) as whole:
        program.save(whole)


def description(model: LoadedModel) -> dict[str, Any]:
    """What a runtime needs beside the network: classes, the letterbox, the operating point, and whence the model is."""
    info = model.info
    return {
        "classes": info.classes,
        "category_ids": info.category_ids,
        "canvas": {"width": model.canvas.width, "height": model.canvas.height, "pad_value": PAD_VALUE},
        "voting_sigma": SIGMA,
        "operating_point": info.operating_point.model_dump(mode="json"),
        "max_detections": info.config.max_detections,
        "provenance": info.production.provenance.model_dump(mode="json"),
    }


class _Candidates(nn.Module):
    """A detector whose `forward` is its `candidates`, which is what torch.onnx follows."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return cast(tuple[Tensor, Tensor, Tensor], tuple(self.detector.candidates(images)))
