"""A trainer of the user's own, imported once before anything is begun with it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tuner.studies.workable import WorkableStudy

_IMPORT = """
import sys
from tuner.config.errors import ConfigError
from tuner.workers.trial_process import load_trainer
try:
    load_trainer(sys.argv[1])
except ConfigError as error:
    sys.exit(error.message)
except Exception as error:
    what = " ".join(f"{type(error).__name__}: {error}".split())
    sys.exit(f"trainer {sys.argv[1]!r} cannot be imported: {what}")
"""


def trainer_option(study: WorkableStudy) -> str:
    """The option, with a blank before it, by which a command goes on with a study as it was begun; mostly none."""
    from tuner.studies.state.provenance import BUILT_IN

    found = study.trained_by()
    return "" if found in (None, BUILT_IN) else f" --trainer {shlex.quote(str(found))}"


def check_trainer(path: str | None) -> None:
    """Import a trainer in a process of its own, as trial processes do: what it imports may take a GPU, or threads.

    Args:
        path: "package.module:callable"; None: the built-in trainer, which needs no check.

    Raises:
        ConfigError: It has another form, cannot be imported, or is nothing to call.
    """
    from tuner.config.errors import ConfigError
    from tuner.workers.slot import python_path

    if path is None:
        return
    done = subprocess.run(
        [sys.executable, "-P", "-c", _IMPORT, path], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True, errors="replace", env={**os.environ, "PYTHONPATH": python_path()},
    )  # fmt: skip
    if done.returncode:
        why = (done.stderr.strip().splitlines() or [f"its import ends with exit code {done.returncode}"])[-1]
        raise ConfigError(
            f"--trainer: {why}",
            hint="Expected package.module:callable, where the module is installed, or lies in the current folder or in "
            "one of PYTHONPATH.",
        )
