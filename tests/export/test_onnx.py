"""A model as ONNX sees in onnxruntime what it sees in torch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tests.export.command import run
from tuner.config.errors import ConfigError
from tuner.config.study import DataSpec
from tuner.config.trial import TrialConfig
from tuner.data.images import read_image
from tuner.data.letterbox import letterbox
from tuner.export.model import LoadedModel, load_model
from tuner.export.onnx_file import METADATA, save_onnx
from tuner.models.build import build_detector
from tuner.models.catalog import family
from tuner.models.detector import Candidates


def in_onnxruntime(path: Path, images: NDArray[np.uint8]) -> Candidates:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = session.run(list(Candidates._fields), {"images": images})
    return Candidates(*map(torch.from_numpy, found))


def in_torch(model: LoadedModel, images: NDArray[np.uint8]) -> Candidates:
    with torch.inference_mode():
        return model.detector.candidates(torch.from_numpy(images))


def assert_equal(found: Candidates, expected: Candidates) -> None:
    """In whatever order, as scores may be nearly equal: each row of one has its like in the other."""
    torch.testing.assert_close(found.scores, expected.scores, rtol=1e-4, atol=1e-5)
    weights = torch.tensor([1.0, 1.0, 1.0, 1.0, 1e3, 1e3])  # a hundredth of a pixel is as much as 1e-5 of a score
    for ours, theirs in zip(map(rows, zip(*found, strict=True)), map(rows, zip(*expected, strict=True)), strict=True):
        apart = torch.cdist(ours * weights, theirs * weights, p=torch.inf)
        assert max(apart.amin(0).max(), apart.amin(1).max()) < 0.05


def rows(of_image: tuple[Tensor, ...]) -> Tensor:
    """(P, 6): boxes, scores and labels of an image."""
    boxes, scores, labels = of_image
    return torch.cat([boxes, scores[:, None], labels[:, None].float()], dim=1)


def test_a_trained_model_in_onnxruntime(model: Path, data: DataSpec, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    assert run("onnx", model, "-o", path, "--batch", 2) == 0
    loaded = load_model(model)
    pictures = sorted(data.path(data.images).iterdir())[:2]
    read = [letterbox(read_image(path), loaded.canvas) for path in pictures]
    images = np.ascontiguousarray(np.stack(read).transpose(0, 3, 1, 2))
    assert_equal(in_onnxruntime(path, images), in_torch(loaded, images))

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    held = json.loads(session.get_modelmeta().custom_metadata_map[METADATA])
    assert held["classes"] == list(loaded.classes)
    assert held["canvas"] == {"width": loaded.canvas.width, "height": loaded.canvas.height, "pad_value": 114}
    assert held["operating_point"] == loaded.operating_point.model_dump(mode="json")
    assert held["provenance"]["study"] == loaded.info.production.provenance.study


@pytest.mark.parametrize("name", ["ssdlite320-mobilenet", "retinanet-resnet50", "fcos-resnet50"])
def test_the_other_single_stage_families(name: str, model: Path, tmp_path: Path) -> None:
    loaded = of_family(name, load_model(model))
    save_onnx(loaded, tmp_path / "model.onnx")
    images = some_images(1, loaded).numpy()
    expected = in_torch(loaded, images)
    assert expected.scores.std() > 1e-4  # they differ by more than what is allowed below
    assert_equal(in_onnxruntime(tmp_path / "model.onnx", images), expected)


def some_images(count: int, model: LoadedModel) -> Tensor:
    shape = (count, 3, model.canvas.height, model.canvas.width)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def of_family(model: str, like: LoadedModel) -> LoadedModel:
    """An untrained detector of another family, whose scores differ."""
    config = TrialConfig(
        model=model, image_size=like.config.image_size, anchor_sizes=family(model).default_anchors(like.canvas)
    )
    torch.manual_seed(0)
    detector = build_detector(config, len(like.classes))
    for norm in detector.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = None  # an average of all: after one batch activations are as large as in training
    with torch.no_grad():
        detector.losses(some_images(2, like), torch.tensor([[[9.0, 9.0, 40.0, 40.0]]] * 2), torch.tensor([[0]] * 2))
    detector.eval()
    detector.max_candidates = 10_000  # all, as those of the last of nearly equal scores might be others
    return LoadedModel(detector, like.info.model_copy(update={"config": config}))


def test_what_cannot_be_written_is_said(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.onnx"
    path.write_text("mine")
    for folder in (model, tmp_path / "no model"):  # said before the model is read
        assert run("onnx", folder, "-o", path) == 1
        assert "--force" in capsys.readouterr().err
        assert run("onnx", folder, "-o", tmp_path / "missing" / "model.onnx") == 1
        assert f"error: {tmp_path / 'missing'}: no such folder" in capsys.readouterr().err
    assert path.read_text() == "mine"
    with pytest.raises(ConfigError, match="fasterrcnn-mobilenet cannot be written as ONNX"):
        save_onnx(of_family("fasterrcnn-mobilenet", load_model(model)), tmp_path / "two.onnx")
    assert not (tmp_path / "two.onnx").exists()
