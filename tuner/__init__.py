"""Hyperparameter optimisation of object detectors, on the GPUs at hand.

```python
import tuner

study = tuner.create_or_open(tuner.load_study_spec("study.yaml"))
tuner.run_worker(study)
print(study.best())
```
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuner.config.load import load_study_spec
    from tuner.studies.study import create_or_open, open_study
    from tuner.workers.worker import run_worker

__all__ = ["create_or_open", "load_study_spec", "open_study", "run_worker"]
__version__ = "0.1.0"

_HOMES = {
    "create_or_open": "tuner.studies.study",
    "load_study_spec": "tuner.config.load",
    "open_study": "tuner.studies.study",
    "run_worker": "tuner.workers.worker",
}


def __getattr__(name: str) -> Any:
    # Imported when asked for: `tuner --help` needs neither Optuna nor a database.
    if name not in _HOMES:
        raise AttributeError(f"module 'tuner' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
