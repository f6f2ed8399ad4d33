"""Checkpoints: everything that training needs to go on as if it had never stopped."""

from __future__ import annotations

import os
import uuid
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from tuner.config.errors import WeightsError
from tuner.trainers.contract import DiskFull
from tuner.trainers.detection.cuda_errors import is_cuda_error, is_out_of_memory


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint, or a model, atomically: a reader sees the old one or the new one, also after a power loss.

    Raises:
        DiskFull: It cannot be written; the old one, if any, is whole.
    """
    # A name of its own: the process of a worker that was given up may be writing the same checkpoint still, in another
    # container perhaps, where processes have the same ids.
    partial = path.with_suffix(f".{uuid.uuid4().hex}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:  # torch's zip writer reports a full disk as RuntimeError
        with suppress(OSError):  # what kept it from being written may keep it from being removed
            partial.unlink()
        if is_out_of_memory(error) or is_cuda_error(error):
            raise  # of an earlier step: the host waits for the GPU here
        raise DiskFull(
            f"{path} cannot be written: {error}",
            hint="Free disk space or mend that; then give the same command again.",
        ) from error


def load(path: Path) -> dict[str, Any] | None:
    """Read a checkpoint into the host's memory, without unpickling code; None when there is none.

    Torch does not look at the checksums that it writes, and would read a number that was damaged as another number.

    Raises:
        WeightsError: The file is damaged.
    """
    if not path.exists():
        return None
    try:
        if not _is_whole(path):
            raise ValueError("it was cut off or damaged")
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsError(f"checkpoint {path} cannot be read: {error}", hint="Delete it to start over.") from error
    return state


def set_aside(path: Path) -> Path | None:
    """Rename a checkpoint that was cut off or damaged, as by a disk or a power loss; None where it is whole.

    What is whole and cannot be used may be usable on another device, and what cannot be read may be readable later.
    """
    try:
        if _is_whole(path):
            return None
    except OSError:
        return None
    return path.replace(path.with_suffix(".damaged"))


def _is_whole(path: Path) -> bool:
    """Whether a file is a zip archive, as torch writes it, with the contents that were written (0.1 s for 100 MB).

    Raises:
        OSError: It cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except OSError:
        raise
    except Exception:  # a damaged directory or header fails in whatever way its bytes lead to
        return False


def remove_unfinished(path: Path) -> None:
    """Remove what processes left that were killed while they wrote this checkpoint."""
    for leftover in path.parent.glob(f"{path.stem}.*.partial"):
        leftover.unlink(missing_ok=True)


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """States of torch's random number generators."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_random_state(states: dict[str, torch.Tensor], device: torch.device) -> None:
    """Undo what was drawn since `random_state`."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
