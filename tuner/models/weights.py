"""Weights to start from: by name from torchvision, or from a file; never through pickle."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torchvision.models import WeightsEnum

from tuner.config.errors import WeightsError
from tuner.config.weights import DETECTOR_PREFIX, SAVE_THEM, require_file

StateDict = dict[str, Tensor]

_HEADS = ("head.", "rpn.", "roi_heads.")
"""What predicts classes and boxes, in `dense` and torchvision's detectors."""

SILENCE = 20.0
"""Seconds after which a server that says nothing is given up: torch itself would wait for ever."""


@dataclass(frozen=True)
class Pretrained:
    """Weights to start from, or none, in which case filling does nothing.

    Attributes:
        source: `TrialConfig.weights`, for messages.
        state: Those of a classifier, of a whole torchvision detector, or of a detector that tuner trained, without
            `DETECTOR_PREFIX`; None: start from scratch.
    """

    source: str
    state: StateDict | None

    def __bool__(self) -> bool:
        return self.state is not None

    @property
    def is_classifier(self) -> bool:
        """Whether these are a classifier's weights, for the trunk alone."""
        return self.state is not None and not any(key.startswith(("backbone.", "trunk.")) for key in self.state)

    def fill_trunk(self, trunk: nn.Module, unused: tuple[str, ...]) -> nn.Module:
        """Fill a classifier but for its `unused` last layers, if the weights are a classifier's.

        Raises:
            WeightsError: Parameters are missing or of another shape.
        """
        if self.state is not None and self.is_classifier:
            self._fill(trunk, self.state, unused)
        return trunk

    def fill_detector(self, network: nn.Module) -> None:
        """Fill a network, if the weights are a whole detector's.

        What depends on the number of classes or anchors stays as it is where that differs, as does every part of the
        head that the weights do not have.

        Raises:
            WeightsError: Parameters outside the head are missing or of another shape.
        """
        if self.state is not None and not self.is_classifier:
            own = network.state_dict()
            fitting = {key for key in own if key in self.state and self.state[key].shape == own[key].shape}
            left = {key for key in own.keys() - fitting if key.startswith(_HEADS)}
            self._fill(network, self.state, tuple(left))

    def _fill(self, module: nn.Module, state: StateDict, unused: tuple[str, ...]) -> None:
        wanted = {
            key: value.shape
            for key, value in module.state_dict().items()
            if not key.endswith("num_batches_tracked") and not key.startswith(unused)
        }
        wrong = [key for key, shape in wanted.items() if key not in state or state[key].shape != shape]
        if wrong:
            raise WeightsError(
                f"weights: {self.source} does not fit: {len(wanted) - len(wrong)} of {len(wanted)} parameters "
                f"match; missing or of another shape: {', '.join(wrong[:3])}{' …' if len(wrong) > 3 else ''}",
                hint="Provide weights of the same network, or use weights: none.",
            )
        module.load_state_dict({key: state[key] for key in wanted}, strict=False)


def load_pretrained(weights: str, default: WeightsEnum) -> Pretrained:
    """The weights that `TrialConfig.weights` names, on the CPU.

    Args:
        weights: "none", "default" or a path.
        default: torchvision's weights that "default" stands for.

    Raises:
        WeightsError: The download or the file failed; says which file to provide.
    """
    if weights == "none":
        return Pretrained(weights, None)
    if weights == "default":
        return Pretrained(weights, _download(default))
    return read_pretrained(weights)


def read_pretrained(weights: str) -> Pretrained:
    """The weights in a file, on the CPU.

    Raises:
        WeightsError: The file is missing or is no state dict.
    """
    state = read_state(Path(weights))
    return Pretrained(weights, {key.removeprefix(DETECTOR_PREFIX): value for key, value in state.items()})


def read_state(path: Path) -> StateDict:
    """The state dict in a file, without running code from it.

    Raises:
        WeightsError: The file is missing or is no state dict.
    """
    require_file(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever torch makes of bytes that are something else
        raise WeightsError(
            f"weights: {path} cannot be read as PyTorch weights ({type(error).__name__})",
            hint=SAVE_THEM,
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(
            f"weights: {path} holds no state dict (names of parameters with their tensors)",
            hint=SAVE_THEM,
        )
    return state


def _download(weights: WeightsEnum) -> StateDict:
    name = weights.url.rsplit("/", 1)[-1]
    cached = Path(torch.hub.get_dir()) / "checkpoints" / name
    if cached.is_file():
        return read_state(cached)
    try:
        with _silence_ends():
            state: StateDict = weights.get_state_dict(progress=sys.stderr.isatty(), check_hash=True, weights_only=True)
    except (URLError, OSError, RuntimeError) as error:
        raise WeightsError(
            f"weights: default needs {weights.url}, which cannot be downloaded ({error})",
            hint=f"Provide the file {name}: put it at {cached}, or give its path as weights.",
        ) from error
    return state


@contextmanager
def _silence_ends() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
