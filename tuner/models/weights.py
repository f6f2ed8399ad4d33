"""Pretrained weights: torchvision's by name, or a file by path; never through pickle."""

from __future__ import annotations

from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor
from torchvision.models import WeightsEnum

from tuner.config.errors import WeightsError

StateDict = dict[str, Tensor]


def read_weights(path: Path) -> StateDict:
    """A state dict from a file.

    Raises:
        WeightsError: The file is missing, damaged or holds something else.
    """
    if not path.is_file():
        raise WeightsError(f"weights: there is no file {path}", hint="Give the path of a state dict, or 'none'.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsError(
            f"weights: {path} cannot be read: {type(error).__name__}",
            hint="It must be a state dict saved by torch.save(model.state_dict(), path).",
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(
            f"weights: {path} holds no state dict of tensors",
            hint="Save it by torch.save(model.state_dict(), path).",
        )
    return state


def download_weights(weights: WeightsEnum) -> StateDict:
    """Torchvision's pretrained weights, from torch's cache or its server.

    Raises:
        WeightsError: The server is out of reach; names the file to provide.
    """
    try:
        state: StateDict = weights.get_state_dict(progress=False, check_hash=True)
    except (URLError, OSError) as error:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise WeightsError(
            f"weights: {weights} cannot be downloaded: {error}",
            hint=f"Put {Path(weights.url).name} into {folder}, give its path as weights, or use weights: none.",
        ) from error
    return state


def check_loaded(what: str, source: str, missing: list[str], unexpected: list[str], unused: tuple[str, ...]) -> None:
    """Refuse weights of another network.

    Args:
        what: The network, for the message.
        source: Where the weights are from, for the message.
        missing: Names that the network has and the weights have not.
        unexpected: Names that the weights have and the network has not.
        unused: Prefixes of parts that may be missing or extra, such as a classifier.

    Raises:
        WeightsError: Any other name is missing or extra.
    """
    odd = [name for name in (*missing, *unexpected) if not name.startswith(unused)]
    if odd:
        shown = ", ".join(odd[:3]) + (", …" if len(odd) > 3 else "")
        raise WeightsError(
            f"weights: {source} does not fit {what}: {len(odd)} names differ ({shown})",
            hint="Give weights of that network, or 'none'.",
        )
