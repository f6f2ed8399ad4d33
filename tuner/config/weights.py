"""The files that `TrialConfig.weights` may name."""

from __future__ import annotations

import zipfile
from pathlib import Path

import yaml

from tuner.config.errors import WeightsError

NAMED = ("none", "default")
"""What is no path."""

TRAINED, CONFIG = "weights.pt", "config.yaml"
"""The file of weights in the folder of a trained model, and what tells of what they are."""

DETECTOR_PREFIX = "network."
"""What the names of all parameters in such a file begin with."""

SAVE_THEM = "Provide a state dict saved with torch.save(model.state_dict(), path)."
"""What to do where a file holds no weights."""

_OLD_MAGIC = bytes.fromhex("6cfc9c46f9206aa85019")
"""The number that files of torch.save begin with, within a pickle, where they are no zip archives (before 1.6)."""


def require_file(path: Path) -> None:
    """Check that a file of weights is there.

    Raises:
        WeightsError: It is not.
    """
    if not path.is_file():
        raise WeightsError(f"weights: there is no file {path}", hint="Correct the path, or use weights: none.")


def weights_file(path: Path) -> Path:
    """The file that a path means: of a folder, as `tuner train` writes it, the weights in it."""
    return path / TRAINED if path.is_dir() else path


def holds_detector(path: Path) -> bool:
    """Whether a file holds a detector that `tuner train` wrote; told by the names in it, without torch."""
    try:
        with zipfile.ZipFile(path) as archive:
            index = next((name for name in archive.namelist() if name.endswith("/data.pkl")), None)
            return index is not None and DETECTOR_PREFIX.encode() in archive.read(index)
    except (OSError, zipfile.BadZipFile):
        return False


def detector_in(path: Path) -> str | None:
    """The detector that a file holds which `tuner train` wrote, by the config beside it; None where nothing tells."""
    if not holds_detector(path):
        return None
    try:
        name = yaml.safe_load(path.with_name(CONFIG).read_text(encoding="utf-8"))["config"]["model"]
    except (OSError, ValueError, yaml.YAMLError, LookupError, TypeError):
        return None
    return name if isinstance(name, str) else None


def require_weights(path: Path) -> None:
    """Check that a file was written by torch.save, without torch: whether it fits a network is known when it is built.

    Raises:
        WeightsError: It is not there, cannot be read or is something else.
    """
    require_file(path)
    try:
        with path.open("rb") as file:
            known = _OLD_MAGIC in file.read(64)
        if not known and zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                known = any(name.endswith("/data.pkl") for name in archive.namelist())
    except OSError as error:
        raise WeightsError(f"weights: {path} cannot be read: {error.strerror}", hint="Check the file.") from None
    except zipfile.BadZipFile as error:
        raise WeightsError(f"weights: {path} is damaged: {error}", hint="Make or copy it again.") from None
    if not known:
        raise WeightsError(f"weights: {path} holds no PyTorch weights, or is cut off", hint=SAVE_THEM)
