"""What an exception in a trial means: how the trial ends, and whether its process can go on (decision 12)."""

from __future__ import annotations

import errno
import sys
import traceback
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from tuner.config.errors import ConfigError, DataError, DeviceError, DiskError, FailureKind, TunerError, WeightsError
from tuner.evaluation.metrics import Metrics
from tuner.trainers.contract import Interrupted, TrialFailed
from tuner.trainers.detection.cuda_errors import failed_assertion, is_cuda_error, is_out_of_memory
from tuner.workers.checked import wrong_metrics
from tuner.workers.messages import Ended

ERROR_LOG = "error.log"
"""File in a trial's folder with the traceback of an exception that nobody foresaw."""
_BROKEN = "its CUDA context is broken"
_KIND_OF_ERROR: tuple[tuple[type[TunerError], FailureKind], ...] = (
    (DataError, FailureKind.BAD_DATA),
    (ConfigError, FailureKind.BAD_CONFIG),
    (WeightsError, FailureKind.BAD_CONFIG),
    (DeviceError, FailureKind.DEVICE),
    (DiskError, FailureKind.DISK),
)


def ended_by(error: Exception, workdir: Path) -> Ended:
    """How a trial ends by an exception of its trainer.

    Args:
        error: What was raised.
        workdir: The trial's folder, where the traceback of what nobody foresaw is saved.

    Returns:
        The end; `Ended.worn` says why the process must end with it, where it must.
    """
    if isinstance(error, Interrupted):
        return Ended("interrupted")
    if isinstance(error, ValidationError) and error.title == Metrics.__name__:
        error = wrong_metrics(error)
    if isinstance(error, TrialFailed):
        return Ended("failed", error.kind, _words(error))
    if isinstance(error, TunerError):
        kind = next((kind for type_, kind in _KIND_OF_ERROR if isinstance(error, type_)), FailureKind.ERROR)
        return Ended("failed", kind, _words(error))
    return _unforeseen(error, workdir)


def _words(error: Exception) -> str:
    """What an error says; users' own trainers may raise one that says nothing."""
    return str(error).strip() or f"{type(error).__name__}, without a message"


def _unforeseen(error: Exception, workdir: Path) -> Ended:
    text = "".join(traceback.format_exception(error))
    with suppress(OSError):  # the log may lie on the disk that is full
        sys.stderr.write(text)
        sys.stderr.flush()
    summary = f"{type(error).__name__}: {error}".strip()
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Ended("failed", FailureKind.DISK, f"no space left on the disk that holds {workdir}")
    if isinstance(error, OSError) and error.errno == errno.EROFS:
        return Ended("failed", FailureKind.DISK, f"the disk that holds {workdir} has become read-only")
    if isinstance(error, OSError) and not workdir.is_dir():
        return Ended("failed", FailureKind.DISK, f"{workdir} was removed while the trial ran: {error}")
    if is_out_of_memory(error):
        return Ended("failed", FailureKind.OUT_OF_MEMORY, summary)
    broken = is_cuda_error(error)
    if broken and not failed_assertion(error):
        return Ended("failed", FailureKind.DEVICE, summary, worn=_BROKEN)
    where = f"traceback in {workdir / ERROR_LOG}"
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        (workdir / ERROR_LOG).write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as full:
        where = f"traceback not saved: {full}"
    return Ended("failed", FailureKind.ERROR, f"{summary} ({where})", worn=_BROKEN if broken else "")
